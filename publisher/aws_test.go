package publisher

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/plugin/kzap"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// place is all that AWS has beside a daemon, on loopback: STS, the container's credentials
// endpoint (of ECS and of EKS Pod Identity) and the instance metadata service. The credentials
// that they give are numbered.
type place struct {
	asked atomic.Int32
	// life is that of the credentials.
	life time.Duration
	// fails, if set, is the HTTP status of every answer.
	fails atomic.Int32
}

// secretKey and sessionToken are parts of all secrets that a place gives.
const secretKey, sessionToken, podToken = "secret-hunter2-", "session-hunter2-", "pod-hunter2"

func (p *place) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number := func() (int32, string) {
		return p.asked.Add(1), time.Now().Add(p.life).UTC().Format(time.RFC3339)
	}
	const instance = "/latest/meta-data/iam/security-credentials/"
	switch status := int(p.fails.Load()); {
	case status != 0:
		p.asked.Add(1)
		// Whatever speaks there could answer anything, also what it was told.
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "%s%s %s", secretKey, r.Header.Get("Authorization"), r.PostFormValue("WebIdentityToken"))
	case r.Method == http.MethodPost && r.PostFormValue("Action") == "AssumeRoleWithWebIdentity" && r.PostFormValue("RoleArn") == "arn:aws:iam::123456789012:role/fhir-cdc":
		if r.PostFormValue("WebIdentityToken") == "expired" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprint(w, "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>"+secretKey+"</Message></Error></ErrorResponse>")
			return
		}
		n, until := number()
		_, _ = fmt.Fprintf(w, "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>STS%s%d</AccessKeyId><SecretAccessKey>%s%d</SecretAccessKey><SessionToken>%s%d</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
			r.PostFormValue("WebIdentityToken"), n, secretKey, n, sessionToken, n, until)
	case r.URL.Path == "/v2/credentials/task", r.URL.Path == "/v1/credentials" && r.Header.Get("Authorization") == podToken:
		n, until := number()
		_ = json.NewEncoder(w).Encode(map[string]string{"AccessKeyId": fmt.Sprint("CONTAINER", n), "SecretAccessKey": fmt.Sprint(secretKey, n), "Token": fmt.Sprint(sessionToken, n), "Expiration": until})
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		_, _ = fmt.Fprint(w, "metadata-token")
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "metadata-token": // Version 2 only.
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == instance:
		_, _ = fmt.Fprint(w, "fhir-cdc")
	case r.URL.Path == instance+"fhir-cdc":
		n, until := number()
		_ = json.NewEncoder(w).Encode(map[string]string{"Code": "Success", "AccessKeyId": fmt.Sprint("INSTANCE", n), "SecretAccessKey": fmt.Sprint(secretKey, n), "Token": fmt.Sprint(sessionToken, n), "Expiration": until})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// inAWS starts a place, and has the environment say env and nothing else of AWS.
// In values, URL is the place's address, DIR a folder with a token and a profile.
func inAWS(t *testing.T, env map[string]string) (p *place, login *awsLogin, dir string) {
	t.Helper()
	p = &place{life: time.Hour}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	dir = t.TempDir()
	for file, text := range map[string]string{
		"web": "one", "pod": podToken,
		"credentials": "[default]\naws_access_key_id = FILE1\naws_secret_access_key = " + secretKey + "\naws_session_token = " + sessionToken,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED",
		"AWS_CA_BUNDLE",
	} {
		t.Setenv(name, "")
	}
	// Nothing of this machine's own, and no address but the place's.
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "none"))
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
	for name, value := range env {
		t.Setenv(name, strings.NewReplacer("URL", server.URL, "DIR", dir).Replace(value))
	}
	own := []func(*config.LoadOptions) error{
		config.WithRetryMaxAttempts(1),
		// The address of ECS's endpoint is a fixed one.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) {
			o.HTTPClient = awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
				t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
					if address == "169.254.170.2:80" {
						address = server.Listener.Addr().String()
					}
					return (&net.Dialer{}).DialContext(ctx, network, address)
				}
			})
		}),
	}
	return p, &awsLogin{options: own}, dir
}

func webIdentity() map[string]string {
	return map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": "DIR/web", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/fhir-cdc", "AWS_REGION": "eu-west-1"}
}

// keyOf is the key of a login, all of whose parts belong together.
func keyOf(t *testing.T, login *awsLogin) string {
	t.Helper()
	auth, err := login.auth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	number := auth.AccessKey[len(auth.AccessKey)-1:]
	if !strings.HasPrefix(auth.SecretKey, secretKey) || !strings.HasPrefix(auth.SessionToken, sessionToken) || !strings.HasSuffix(secretKey+number+auth.SecretKey, auth.SecretKey) {
		t.Errorf("a login of parts that do not belong together")
	}
	return auth.AccessKey
}

func TestCredentialsOfThePlace(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"variables":                {map[string]string{"AWS_ACCESS_KEY_ID": "ENV1", "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": sessionToken}, "ENV1"},
		"a file":                   {map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "DIR/credentials"}, "FILE1"},
		"a service account of EKS": {webIdentity(), "STSone1"},
		"EKS Pod Identity":         {map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "DIR/pod"}, "CONTAINER1"},
		"a task of ECS":            {map[string]string{"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/task"}, "CONTAINER1"},
		"an instance of EC2":       {nil, "INSTANCE1"},
		"variables before a role":  {map[string]string{"AWS_ACCESS_KEY_ID": "ENV1", "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": sessionToken, "AWS_WEB_IDENTITY_TOKEN_FILE": "DIR/web", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/fhir-cdc"}, "ENV1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, login, _ := inAWS(t, test.env)
			for range 2 { // Logins in a row are served by one answer.
				if got := keyOf(t, login); got != test.want {
					t.Errorf("key %s, want %s", got, test.want)
				}
			}
		})
	}
}

// Credentials are asked for anew before they end, with the token that the file has by then. While
// nobody gives any, those that still hold serve.
func TestCredentialsAreRenewed(t *testing.T) {
	p, login, dir := inAWS(t, webIdentity())
	if got := keyOf(t, login); got != "STSone1" {
		t.Fatalf("key %s", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "web"), []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	ago := func(gotten, left time.Duration) {
		login.mu.Lock()
		defer login.mu.Unlock()
		login.gotten, login.last.Expires = time.Now().Add(-gotten), time.Now().Add(left)
	}
	ago(tokenReuse, time.Hour)
	if got := keyOf(t, login); got != "STStwo2" {
		t.Errorf("key %s of a later login", got)
	}
	ago(time.Second, tokenMargin)
	if got := keyOf(t, login); got != "STStwo3" {
		t.Errorf("key %s after one that was about to expire", got)
	}
	p.fails.Store(http.StatusForbidden)
	ago(tokenReuse, time.Minute)
	if got := keyOf(t, login); got != "STStwo3" {
		t.Errorf("key %s while none is given", got)
	}
	ago(tokenReuse, tokenMargin)
	if _, err := login.auth(t.Context()); err == nil {
		t.Error("credentials that have ended are used")
	}
	p.fails.Store(0)
	if got := keyOf(t, login); got != "STStwo"+fmt.Sprint(p.asked.Load()) {
		t.Errorf("key %s when there are credentials again", got)
	}
}

// Keys in a file that is replaced count at the next login.
func TestCredentialsInAFileAreReadAgain(t *testing.T) {
	_, login, dir := inAWS(t, map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "DIR/credentials"})
	if got := keyOf(t, login); got != "FILE1" {
		t.Fatalf("key %s", got)
	}
	text := "[default]\naws_access_key_id = FILE2\naws_secret_access_key = " + secretKey + "\naws_session_token = " + sessionToken
	if err := os.WriteFile(filepath.Join(dir, "credentials"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := keyOf(t, login); got != "FILE2" {
		t.Errorf("key %s", got)
	}
}

// An error says who gives nothing and what to do, and whether waiting may help. It tells no secret,
// whatever was answered.
func TestNoCredentials(t *testing.T) {
	pod := map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "DIR/pod"}
	with := func(env map[string]string, name, value string) map[string]string {
		env = maps.Clone(env)
		env[name] = value
		return env
	}
	const nobody = "http://127.0.0.1:1"
	for name, test := range map[string]struct {
		env   map[string]string
		token string
		fails int
		final bool
		want  string
	}{
		"STS refuses":            {env: webIdentity(), token: "expired", final: true, want: `AWS STS answers 400 "ExpiredTokenException": check AWS_ROLE_ARN`},
		"STS is down":            {env: webIdentity(), fails: 503, want: "AWS STS answers 503"},
		"STS is away":            {env: with(webIdentity(), "AWS_ENDPOINT_URL_STS", nobody), want: "AWS STS does not answer: dial tcp"},
		"no token":               {env: with(webIdentity(), "AWS_WEB_IDENTITY_TOKEN_FILE", "DIR/nowhere"), final: true, want: "nowhere"},
		"no role":                {env: with(webIdentity(), "AWS_ROLE_ARN", ""), final: true, want: "role"},
		"the pod has none":       {env: pod, fails: 403, final: true, want: "the container's credentials endpoint (AWS_CONTAINER_CREDENTIALS_*) answers 403: check the task's role"},
		"the agent is busy":      {env: pod, fails: 429, want: "no AWS credentials: the container's credentials endpoint"},
		"the agent is away":      {env: with(pod, "AWS_CONTAINER_CREDENTIALS_FULL_URI", nobody+"/v1/credentials/hunter2"), want: "does not answer: dial tcp"},
		"an agent somewhere":     {env: with(pod, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/"), final: true, want: "only loopback/ecs/eks hosts"},
		"the instance has none":  {fails: 404, final: true, want: "the instance metadata service answers 404: no AWS_* variable says where else to look"},
		"nowhere":                {env: map[string]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT": nobody}, final: true, want: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		"a profile that is none": {env: map[string]string{"AWS_PROFILE": "other"}, final: true, want: "other"},
	} {
		t.Run(name, func(t *testing.T) {
			p, login, dir := inAWS(t, test.env)
			token := "web-hunter2"
			if test.token != "" {
				token = test.token
			}
			if err := os.WriteFile(filepath.Join(dir, "web"), []byte(token), 0o600); err != nil {
				t.Fatal(err)
			}
			p.fails.Store(int32(test.fails))
			_, err := login.auth(t.Context())
			if err == nil {
				t.Fatal("there are credentials")
			}
			if got := errors.As(err, new(*refusedClient)); got != test.final || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v; final: %v, want %v with %q", err, got, test.final, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
}

// mskBroker is a broker with IAM that takes every key but one, and wants a new login at once. It
// sends each key that it is shown.
func mskBroker(t *testing.T, refused string) (address []string, keys <-chan string) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	shown := make(chan string, 100)
	cluster.ControlKey(int16(kmsg.SASLHandshake), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		answer := r.ResponseKind().(*kmsg.SASLHandshakeResponse)
		answer.SupportedMechanisms = []string{"AWS_MSK_IAM"}
		return answer, nil, true
	})
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		var m map[string]string
		answer := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		if json.Unmarshal(r.(*kmsg.SASLAuthenticateRequest).SASLAuthBytes, &m) != nil {
			return answer, errors.New("no login of IAM"), true
		}
		key, _, _ := strings.Cut(m["x-amz-credential"], "/")
		shown <- key
		answer.SASLAuthBytes, answer.SessionLifetimeMillis = []byte(`{"version":"2020_10_22"}`), 1
		if key == refused {
			answer.ErrorCode, answer.ErrorMessage = kerr.SaslAuthenticationFailed.Code, kmsg.StringPtr("Access denied")
		}
		return answer, nil, true
	})
	return cluster.ListenAddrs(), shown
}

// A client logs in with what the place gives, and nothing of it is logged.
func TestLoginToMSK(t *testing.T) {
	for name, test := range map[string]struct {
		refused, fails string
		want           string
	}{
		"it works":           {},
		"the brokers refuse": {refused: "CONTAINER1", want: "refuse the login"},
		"no credentials":     {fails: "403", want: "no AWS credentials: the container's credentials endpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, _ := inAWS(t, map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL/v1/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "DIR/pod", "AWS_REGION": "eu-west-1"})
			if test.fails != "" {
				p.fails.Store(http.StatusForbidden)
			}
			address, keys := mskBroker(t, test.refused)
			core, logs := observer.New(zap.DebugLevel)
			opts, err := ClientOptions(Connection{Brokers: address, SASL: SASL{Enabled: true, Mechanism: mechanismAWS}}, zap.New(core))
			if err != nil {
				t.Fatal(err)
			}
			_, err = CheckTopics(t.Context(), append(opts, kgo.WithLogger(kzap.New(zap.New(core), kzap.Level(kgo.LogLevelDebug)))), Requirements{})
			switch {
			case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !errors.As(err, new(*ConfigurationError))):
				t.Errorf("%v; want a ConfigurationError with %q", err, test.want)
			case test.fails == "":
				if key := <-keys; key != "CONTAINER1" {
					t.Errorf("key %s", key)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret is told: %v", err)
			}
			if logs.Len() == 0 {
				t.Error("nothing is logged, so this looks at nothing")
			}
			for _, entry := range logs.All() {
				if strings.Contains(fmt.Sprint(entry.Message, entry.ContextMap()), "hunter2") {
					t.Errorf("a secret is logged: %s", entry.Message)
				}
			}
		})
	}
}

// The first message of a login to Amazon MSK is a request that is signed as AWS
// documents it (Signature Version 4, presigned), computed here anew. No broker that
// would check it can be had.
func TestSignatureForMSK(t *testing.T) {
	const host, secret, session = "b-1.test.abc123.c2.kafka.eu-west-1.amazonaws.com", "secret/key", "session+token=="
	inAWS(t, map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session})
	mechanism, err := SASL{Enabled: true, Mechanism: mechanismAWS}.mechanism()
	if err != nil {
		t.Fatal(err)
	}
	if mechanism.Name() != "AWS_MSK_IAM" {
		t.Errorf("mechanism %s", mechanism.Name())
	}
	_, first, err := mechanism.Authenticate(t.Context(), host+":9098")
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]string
	if err := json.Unmarshal(first, &m); err != nil {
		t.Fatal(err)
	}
	date := m["x-amz-date"]
	scope := date[:min(8, len(date))] + "/eu-west-1/kafka-cluster/aws4_request"
	for name, want := range map[string]string{
		"version": "2020_10_22", "host": host, "action": "kafka-cluster:Connect", "x-amz-algorithm": "AWS4-HMAC-SHA256",
		"x-amz-credential": "AKIDEXAMPLE/" + scope, "x-amz-security-token": session, "x-amz-signedheaders": "host",
	} {
		if m[name] != want {
			t.Errorf("%s is %q, want %q", name, m[name], want)
		}
	}
	query := url.Values{"Action": {m["action"]}}
	for member, parameter := range map[string]string{
		"x-amz-algorithm": "X-Amz-Algorithm", "x-amz-credential": "X-Amz-Credential", "x-amz-date": "X-Amz-Date",
		"x-amz-expires": "X-Amz-Expires", "x-amz-security-token": "X-Amz-Security-Token", "x-amz-signedheaders": "X-Amz-SignedHeaders",
	} {
		query.Set(parameter, m[member])
	}
	canonical := strings.Join([]string{"GET", "/", strings.ReplaceAll(query.Encode(), "+", "%20"), "host:" + host, "", "host", digest("")}, "\n")
	if got, want := m["x-amz-signature"], signature(secret, scope, date, canonical); got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
	if strings.Contains(string(first), secret) {
		t.Error("the message holds the secret key")
	}
}

// signature is that of Signature Version 4, as AWS documents it.
func signature(secret, scope, date, canonical string) string {
	key := []byte("AWS4" + secret)
	for _, part := range append(strings.Split(scope, "/"), strings.Join([]string{"AWS4-HMAC-SHA256", date, scope, digest(canonical)}, "\n")) {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// What the test above compares with is right: this is the example that AWS publishes with
// Signature Version 4 (ListUsers, 2015-08-30).
func TestSignatureOfAWSExample(t *testing.T) {
	canonical := strings.Join([]string{
		"GET", "/", "Action=ListUsers&Version=2010-05-08",
		"content-type:application/x-www-form-urlencoded; charset=utf-8", "host:iam.amazonaws.com", "x-amz-date:20150830T123600Z", "",
		"content-type;host;x-amz-date", digest(""),
	}, "\n")
	if got, want := digest(canonical), "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"; got != want {
		t.Errorf("digest of the canonical request %s, want %s", got, want)
	}
	got := signature("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830/us-east-1/iam/aws4_request", "20150830T123600Z", canonical)
	if want := "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

package publisher

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// The first message of a login to Amazon MSK is a request that is signed as AWS
// documents it (Signature Version 4, presigned), computed here anew. No broker that
// would check it can be had.
func TestSignatureForMSK(t *testing.T) {
	const host, secret, session = "b-1.test.abc123.c2.kafka.eu-west-1.amazonaws.com", "secret/key", "session+token=="
	env := map[string]string{"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session}
	mechanism, err := SASL{Enabled: true, Mechanism: mechanismAWS, Getenv: func(name string) string { return env[name] }}.mechanism()
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

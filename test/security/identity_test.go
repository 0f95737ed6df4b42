package security_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	clientID = "fhir-cdc-client"
	scope    = "kafka.write"
	audience = "kafka"
	keyID    = "key-1"
	// rotatingClient is the client of a test that changes its secret.
	rotatingClient = "rotating-client"
	// renewingClient is the client of a test that outlives its tokens.
	renewingClient = "renewing-client"
	// tokenLife is of the endpoint's tokens; the broker ends a session with its token.
	tokenLife = 15 * time.Second
)

// clientSecret is of the client that may do everything.
var clientSecret = rand.Text()

// identity is an identity provider: it gives tokens to clients that know their
// secret, over TLS with our authority, and shows its public key to the broker. An access
// token's subject is the client's id.
type identity struct {
	server *httptest.Server
	giving *httptest.Server
	key    *rsa.PrivateKey

	mu      sync.Mutex
	secrets map[string]string
	given   map[string]int
}

func newIdentity(f *files) (*identity, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	i := &identity{key: key, secrets: map[string]string{clientID: clientSecret, renewingClient: clientSecret}, given: map[string]int{}}
	certificate, private, err := f.authority.issue(pkix.Name{CommonName: "identity"})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, private)
	if err != nil {
		return nil, err
	}
	keys, tokens := http.NewServeMux(), http.NewServeMux()
	keys.HandleFunc("GET /jwks", i.serveKeys)
	tokens.HandleFunc("POST /token", i.serveToken)
	i.server, i.giving = httptest.NewServer(keys), httptest.NewUnstartedServer(tokens)
	i.giving.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	i.giving.Config.ErrorLog = zap.NewStdLog(zap.NewNop()) // of clients that do not trust it
	i.giving.StartTLS()
	return i, nil
}

func (i *identity) endpoint() string { return i.giving.URL + "/token" }

func (i *identity) close() {
	i.server.Close()
	i.giving.Close()
}

// set gives a client its secret; one that it had does no longer.
func (i *identity) set(client, secret string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.secrets[client] = secret
}

// tokens is how many a client was given.
func (i *identity) tokens(client string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.given[client]
}

func (i *identity) serveKeys(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": keyID,
		"n": encoded(i.key.N.Bytes()), "e": encoded(big.NewInt(int64(i.key.E)).Bytes()),
	}}})
}

func (i *identity) serveToken(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case secret == "" || secret != i.secrets[id]:
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
	case r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("scope") != scope:
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_scope"})
	default:
		i.given[id]++
		answer(w, http.StatusOK, map[string]any{"access_token": i.token(id, tokenLife), "token_type": "Bearer", "expires_in": int(tokenLife.Seconds())})
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // The client will say that it got nothing.
}

// token is a signed access token (RFC 9068).
func (i *identity) token(subject string, life time.Duration) string {
	now := time.Now()
	part := func(v map[string]any) string {
		text, _ := json.Marshal(v) // Strings and numbers only.
		return encoded(text)
	}
	unsigned := part(map[string]any{"alg": "RS256", "typ": "at+jwt", "kid": keyID}) + "." + part(map[string]any{
		"iss": i.server.URL, "aud": audience, "sub": subject, "scope": scope,
		"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(life).Unix(),
	})
	digest := sha256.Sum256([]byte(unsigned))
	signature, _ := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, digest[:]) // A good key does not fail.
	return unsigned + "." + encoded(signature)
}

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

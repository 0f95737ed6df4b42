package publisher

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/fhir-cdc/fhir-cdc/handshake"
)

const (
	// tokenTimeout bounds one request to the token endpoint. It is below the time
	// that CheckTopics gives the brokers, so that its error tells the cause.
	tokenTimeout = 5 * time.Second
	// tokenReuse is how long a token serves further logins. A client opens a few
	// connections to each broker at about the same time; later logins get a token
	// of their own, so that one that the brokers have come to refuse (a key was
	// exchanged, a session revoked) is not tried for the rest of its life.
	tokenReuse = 30 * time.Second
	// tokenMargin is the least life that a token must have left to be used.
	tokenMargin = 10 * time.Second
)

// OAuth says how to get tokens by the client credentials grant (RFC 6749, 4.4).
type OAuth struct {
	// TokenEndpoint is the address that gives tokens; empty: no tokens from there.
	TokenEndpoint string
	// ClientID and ClientSecret are this client's name and password there.
	ClientID, ClientSecret string
	// Scopes are asked for; none leaves them to the endpoint.
	Scopes []string
	// CAFile has the PEM certificates that the endpoint's must come from; empty
	// means the system's.
	CAFile string
}

// bearer is OAUTHBEARER with tokens that are renewed, and with an answer to a
// refusal that says so: the client's own speaks of unexpected data.
type bearer struct {
	login SASL
	sasl.Mechanism

	mu     sync.Mutex
	token  *oauth2.Token
	from   OAuth
	gotten time.Time
}

func newBearer(login SASL) (*bearer, error) {
	b := &bearer{login: login}
	b.Mechanism = oauth.Oauth(b.auth)
	if login.Token == "" {
		// A wrong file is an error at start.
		if _, err := login.OAuth.client(); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Authenticate begins a login.
func (b *bearer) Authenticate(ctx context.Context, host string) (sasl.Session, []byte, error) {
	session, first, err := b.Mechanism.Authenticate(ctx, host)
	return bearerSession{session}, first, err
}

type bearerSession struct{ sasl.Session }

// Challenge takes the broker's answer: nothing if the token is accepted, else the
// reason (RFC 7628, 3.2.3), which holds nothing secret.
func (s bearerSession) Challenge(answer []byte) (bool, []byte, error) {
	if len(answer) > 0 {
		return false, nil, fmt.Errorf("%w: the token is refused: %.200q", kerr.SaslAuthenticationFailed, answer)
	}
	return s.Session.Challenge(answer)
}

func (b *bearer) auth(ctx context.Context) (oauth.Auth, error) {
	login, err := b.login.now()
	if err != nil {
		return oauth.Auth{}, err
	}
	auth := oauth.Auth{Token: login.Token, Extensions: login.Extensions}
	if auth.Token == "" {
		auth.Token, err = b.fromEndpoint(ctx, login.OAuth)
	}
	return auth, err
}

func (b *bearer) fromEndpoint(ctx context.Context, o OAuth) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.token != nil && sameClient(b.from, o) && time.Since(b.gotten) < tokenReuse &&
		(b.token.Expiry.IsZero() || time.Until(b.token.Expiry) > tokenMargin) {
		return b.token.AccessToken, nil
	}
	token, err := o.get(ctx)
	if err != nil {
		return "", err
	}
	b.token, b.from, b.gotten = token, o, time.Now()
	return token.AccessToken, nil
}

func sameClient(a, b OAuth) bool {
	return a.TokenEndpoint == b.TokenEndpoint && a.ClientID == b.ClientID && a.ClientSecret == b.ClientSecret
}

func (o OAuth) client() (*http.Client, error) {
	authorities, err := authorities(o.CAFile)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout: tokenTimeout,
		Transport: &http.Transport{
			Proxy:             http.ProxyFromEnvironment,
			TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities},
			DisableKeepAlives: true, // A request now and then; no connection is to lie about for it.
		},
		// The secret goes to the endpoint that was configured and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// get asks for a token. Its errors never hold what the endpoint answered beyond the
// error code: an answer could hold anything.
func (o OAuth) get(ctx context.Context) (*oauth2.Token, error) {
	client, err := o.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := o.ask(context.WithValue(ctx, oauth2.HTTPClient, client), oauth2.AuthStyleInHeader)
	if notInHeader(err) {
		token, err = o.ask(context.WithValue(ctx, oauth2.HTTPClient, client), oauth2.AuthStyleInParams)
	}
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused):
		status := refused.Response.StatusCode
		err := fmt.Errorf("the token endpoint %s answers %d %q", o.TokenEndpoint, status, refused.ErrorCode)
		if status == http.StatusTooManyRequests || status >= http.StatusInternalServerError {
			return nil, err
		}
		return nil, &refusedClient{fmt.Errorf("%w: check kafka.sasl.oauth, client id, secret and scopes", err)}
	case handshake.Refused(err):
		return nil, &refusedClient{fmt.Errorf("no TLS connection to the token endpoint %s (check kafka.sasl.oauth.ca_file and the endpoint's certificate): %w", o.TokenEndpoint, err)}
	case err != nil:
		return nil, fmt.Errorf("get a token from %s: %w", o.TokenEndpoint, err)
	}
	return token, nil
}

// refusedClient says that the token endpoint refuses the client, or the client the
// endpoint's certificate. At the start that is a *ConfigurationError; later the secret may
// be about to change, so it is tried again.
type refusedClient struct{ error }

func (e *refusedClient) Unwrap() error { return e.error }

func (o OAuth) ask(ctx context.Context, style oauth2.AuthStyle) (*oauth2.Token, error) {
	request := clientcredentials.Config{
		ClientID: o.ClientID, ClientSecret: o.ClientSecret, TokenURL: o.TokenEndpoint, Scopes: o.Scopes, AuthStyle: style,
	}
	return request.Token(ctx)
}

// notInHeader tells whether the endpoint may be one that takes id and secret in the
// request's body only, which RFC 6749 (2.3.1) lets it. (The library tries both after
// any error, and shows the error of the second.)
func notInHeader(err error) bool {
	var refused *oauth2.RetrieveError
	return errors.As(err, &refused) &&
		(refused.Response.StatusCode == http.StatusUnauthorized || refused.ErrorCode == "invalid_client" || refused.ErrorCode == "invalid_request")
}

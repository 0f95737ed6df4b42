package publisher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/twmb/franz-go/pkg/sasl/aws"

	"github.com/fhir-cdc/fhir-cdc/terminal"
)

// awsLogin has the credentials of the role that AWS gives to where the daemon runs. AWS's own
// library knows the places, and in which order they count.
type awsLogin struct {
	// options are for tests.
	options []func(*config.LoadOptions) error

	mu     sync.Mutex
	last   sdk.Credentials
	gotten time.Time
}

// auth is asked at each login. As with bearer tokens, logins in a row have one answer, and a
// later one asks anew: so none is about to expire, and none that was revoked is kept. When it
// gets nothing, the last credentials serve as long as they hold.
func (l *awsLogin) auth(ctx context.Context) (aws.Auth, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.CanExpire || time.Since(l.gotten) >= tokenReuse || time.Until(l.last.Expires) <= tokenMargin {
		fresh, err := l.get(ctx)
		switch {
		case err == nil:
			l.last, l.gotten = fresh, time.Now()
		case !l.last.CanExpire || time.Until(l.last.Expires) <= tokenMargin:
			return aws.Auth{}, err
		}
	}
	return aws.Auth{AccessKey: l.last.AccessKeyID, SecretKey: l.last.SecretAccessKey, SessionToken: l.last.SessionToken}, nil
}

// get reads variables and files anew, and asks where they say.
func (l *awsLogin) get(ctx context.Context) (sdk.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	found, err := config.LoadDefaultConfig(ctx, append(l.options, config.WithLogger(logging.Nop{}))...)
	if err != nil {
		return sdk.Credentials{}, &refusedClient{fmt.Errorf("AWS credentials: %w", err)}
	}
	got, err := found.Credentials.Retrieve(ctx)
	if err != nil {
		return sdk.Credentials{}, awsFault(found.Credentials, err)
	}
	return got, nil
}

// awsFault says who gives no credentials. It never holds what was answered beyond the error
// code, nor an address: an answer could hold anything, and an address be a key.
func awsFault(from sdk.CredentialsProvider, err error) error {
	place, advice, instance := "AWS", "check the AWS_* variables and the profile", false
	switch {
	case sdk.IsCredentialsProvider(from, &stscreds.WebIdentityRoleProvider{}):
		place, advice = "AWS STS", "check AWS_ROLE_ARN, the role's trust policy and AWS_REGION"
	case sdk.IsCredentialsProvider(from, &endpointcreds.Provider{}):
		place, advice = "the container's credentials endpoint (AWS_CONTAINER_CREDENTIALS_*)", "check the task's role or the pod identity association"
	case sdk.IsCredentialsProvider(from, &ec2rolecreds.Provider{}):
		place, instance = "the instance metadata service", true
		advice = "no AWS_* variable says where else to look; give the instance a role (and a hop limit of 2 if this is a container), the pod one, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	}
	var answer interface{ HTTPStatusCode() int }
	var code smithy.APIError
	var unanswered *url.Error
	switch {
	case errors.As(err, &answer) && answer.HTTPStatusCode() != 0:
		status := answer.HTTPStatusCode()
		text := fmt.Sprintf("no AWS credentials: %s answers %d", place, status)
		if errors.As(err, &code) && code.ErrorCode() != "" {
			text += fmt.Sprintf(" %.100q", code.ErrorCode())
		}
		if status == http.StatusTooManyRequests || status >= http.StatusInternalServerError || retry.NewStandard().IsErrorRetryable(err) {
			return errors.New(text)
		}
		return &refusedClient{fmt.Errorf("%s: %s", text, advice)}
	case errors.As(err, &unanswered):
		err = fmt.Errorf("no AWS credentials: %s does not answer: %w", place, unanswered.Err)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("no AWS credentials: %s does not answer within %s: %w", place, terminal.Duration(tokenTimeout), context.DeadlineExceeded)
	default:
		return &refusedClient{fmt.Errorf("no AWS credentials from %s (%s): %w", place, advice, err)}
	}
	if instance { // Where there is none, none will come.
		return &refusedClient{fmt.Errorf("%w: %s", err, advice)}
	}
	return err
}

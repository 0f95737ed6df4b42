package lookup

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func TestErrorsOfQueries(t *testing.T) {
	// Connect does not dial; the collection only gives its name.
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	q := &query{operation: "read history", coll: client.Database("resource-history").Collection("Consent_4_0_0_History"), without: "set facts.request_id: false"}
	network := errors.New("connection refused")
	tests := []struct {
		name string
		err  error
		want string
	}{
		{
			name: "permission", err: mongo.CommandError{Code: 13, Name: "Unauthorized", Message: "not authorized to execute command { find: secret }"},
			want: "read history: the role needs find on resource-history.Consent_4_0_0_History, or set facts.request_id: false: MongoDB error 13 (Unauthorized)",
		},
		{
			name: "another server error", err: mongo.CommandError{Code: 2, Name: "BadValue", Message: "secret"},
			want: "read history resource-history.Consent_4_0_0_History: MongoDB error 2 (BadValue)",
		},
		{name: "network", err: network, want: "read history resource-history.Consent_4_0_0_History: connection refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := q.failed(t.Context(), tt.err)
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Error("shows the server's message")
			}
			var wanted, got mongo.ServerError
			if errors.As(tt.err, &wanted) && (!errors.As(err, &got) || !got.HasErrorCode(wanted.ErrorCodes()[0])) {
				t.Error("the code is out of reach")
			}
		})
	}
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := q.failed(ctx, network); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

package preflight

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/fhir-cdc/fhir-cdc/test/services/download"
)

// answering is a client of a server that gives these answers to these commands, and to every
// other one that all is well.
func answering(t *testing.T, answers map[string]bson.D) *mongo.Client {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn, answers)
		}
	}()
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + listener.Addr().String() + "/?directConnection=true"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(t.Context()) })
	return client
}

func answer(conn net.Conn, answers map[string]bson.D) {
	defer conn.Close()
	const head, query, reply, message = 16, 2004, 1, 2013
	for {
		var header [head]byte
		if _, err := io.ReadFull(conn, header[:]); err != nil {
			return
		}
		body := make([]byte, binary.LittleEndian.Uint32(header[:])-head)
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		kind, document := binary.LittleEndian.Uint32(header[12:]), []byte(nil)
		if kind == query { // A driver's first question: flags, name, two numbers.
			document = body[4+strings.IndexByte(string(body[4:]), 0)+1+8:]
		} else { // Flags and the kind of the section.
			document = body[5:]
		}
		name := "hello"
		if elements, err := bson.Raw(document[:binary.LittleEndian.Uint32(document)]).Elements(); err == nil && kind == message {
			name = elements[0].Key()
		}
		doc, err := bson.Marshal(append(answers[name], bson.E{Key: "ok", Value: 1}))
		if err != nil {
			return
		}
		var out []byte
		if kind == query { // Flags, cursor, start, number of documents.
			out = append(make([]byte, 16), 1, 0, 0, 0)
			kind = reply
		} else {
			out = make([]byte, 5)
		}
		out = append(out, doc...)
		back := binary.LittleEndian.AppendUint32(nil, uint32(head+len(out)))
		back = binary.LittleEndian.AppendUint32(back, 1)
		back = append(back, header[4:8]...)
		back = binary.LittleEndian.AppendUint32(back, kind)
		if _, err := conn.Write(append(back, out...)); err != nil {
			return
		}
	}
}

// What is known of a version is told, by the answers that servers of it give.
func TestMongoDBVersions(t *testing.T) {
	for _, test := range []struct {
		version bson.A
		text    string
		wire    int
		level   Level
		says    string
	}{
		{bson.A{5, 0, 31, 0}, "5.0.31", 13, Error, "5.0.31; the daemon needs MongoDB 6.0 or newer"},
		{bson.A{6, 0, 5, 0}, "6.0.5", 17, OK, "6.0.5 (tried: 6.0)"},
		{bson.A{7, 0, 28, 0}, "7.0.28", 21, OK, "7.0.28"},
		{bson.A{8, 0, 17, 0}, "8.0.17", 25, OK, "8.0.17"},
		{bson.A{8, 2, 0, 0}, "8.2.0", 27, Warning, "SERVER-109626); use 8.2.1"},
		{bson.A{8, 2, 1, 0}, "8.2.1", 27, OK, "8.2.1"},
		{bson.A{9, 0, 0, 0}, "9.0.0", 29, Warning, "SERVER-135099); use 9.0.2"},
		{bson.A{9, 0, 1, 0}, "9.0.1", 29, Warning, "SERVER-135099); use 9.0.2"},
		{bson.A{9, 0, 2, 0}, "9.0.2", 29, OK, "9.0.2"},
	} {
		t.Run(test.text, func(t *testing.T) {
			client := answering(t, map[string]bson.D{
				"hello": {
					{Key: "isWritablePrimary", Value: true},
					{Key: "helloOk", Value: true},
					{Key: "setName", Value: "rs0"},
					{Key: "secondary", Value: false},
					{Key: "maxBsonObjectSize", Value: 16 << 20},
					{Key: "maxMessageSizeBytes", Value: 48000000},
					{Key: "maxWriteBatchSize", Value: 100000},
					{Key: "logicalSessionTimeoutMinutes", Value: 30},
					{Key: "minWireVersion", Value: 0},
					{Key: "maxWireVersion", Value: test.wire},
					{Key: "localTime", Value: time.Now()},
				},
				"buildInfo": {{Key: "version", Value: test.text}, {Key: "versionArray", Value: test.version}},
			})
			findings := MongoDB{Name: "main", Client: client}.Server(t.Context())
			about(t, findings, OK, "MongoDB main: server", "replica set rs0")
			about(t, findings, test.level, "MongoDB main: version", test.says)
		})
	}
}

func TestKafkaVersions(t *testing.T) {
	const version, transactions = "Kafka: version", "Kafka: transaction.version"
	other := kversion.V2_8_0()
	other.SetMaxKeyVersion(int16(kmsg.Produce), 10)
	other.SetMaxKeyVersion(int16(kmsg.Fetch), 4)
	for name, test := range map[string]struct {
		versions *kversion.Versions
		level    int16 // of transaction.version
		about    string
		is       Level
		says     string
		findings int
	}{
		"3.9":                         {kversion.V3_9_0(), 0, version, Warning, "v3.9 by the requests that it takes, which has no transaction.version 2; use Kafka 4.0 or newer", 2},
		"4.0":                         {kversion.V4_0_0(), 2, version, OK, "v4.0 by the requests that it takes (tried: 4.3)", 3},
		"4.3":                         {kversion.V4_3_0(), 2, transactions, OK, "2", 3},
		"4.3, transactions of before": {kversion.V4_3_0(), 1, transactions, Warning, "1; raise it with kafka-features.sh upgrade --feature transaction.version=2", 3},
		"4.3, none":                   {kversion.V4_3_0(), 0, transactions, Warning, "none is told, so it counts as 1; raise it", 3},
		"another maker's":             {other, 2, transactions, OK, "2", 2},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			cluster.ControlKey(int16(kmsg.ApiVersions), func(r kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				answer := r.ResponseKind().(*kmsg.ApiVersionsResponse)
				test.versions.EachMaxKeyVersion(func(key, most int16) {
					answer.ApiKeys = append(answer.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key, MaxVersion: most})
				})
				if test.level > 0 {
					answer.FinalizedFeatures = []kmsg.ApiVersionsResponseFinalizedFeature{{Name: "transaction.version", MaxVersionLevel: test.level, MinVersionLevel: test.level}}
				}
				return answer, nil, true
			})
			client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			findings := Kafka{Client: client, Transactions: true}.Brokers(t.Context())
			about(t, findings, test.is, test.about, test.says)
			if len(findings) != test.findings {
				t.Errorf("%d findings, want %d: %+v", len(findings), test.findings, findings)
			}
			if findings := (Kafka{Client: client}).Brokers(t.Context()); len(findings) != 1 {
				t.Errorf("without transactions: %+v", findings)
			}
		})
	}
}

// What is said to be tried is what the tests run with.
func TestTried(t *testing.T) {
	for what, with := range map[string]string{mongoDB: download.MongoDBVersion, kafka: download.KafkaVersion} {
		if !strings.HasPrefix(with, tried()[what]+".") {
			t.Errorf("%s %s is said to be tried; the tests run with %s", what, tried()[what], with)
		}
	}
}

package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// marker is part of every secret in these tests.
const marker = "hunter2"

// TestSecretNeverPrints goes through every way that a value gets into text.
func TestSecretNeverPrints(t *testing.T) {
	s := Secret(marker)
	holder := struct {
		S Secret
		P *Secret
		L []Secret
		M map[string]Secret
	}{s, &s, []Secret{s}, map[string]Secret{"k": s}}

	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%10s", "%t"} {
		texts = append(texts, fmt.Sprintf(verb, s), fmt.Sprintf(verb, holder), fmt.Sprintf(verb, &holder))
	}
	texts = append(texts, fmt.Sprint(s), fmt.Errorf("connect: %v", s).Error(), s.String(), s.GoString())
	for _, encode := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		text, err := encode(holder)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	for _, text := range texts {
		// %x of the plain string would be this.
		if strings.Contains(text, marker) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", marker)) {
			t.Errorf("secret shows in %q", text)
		}
	}
	if s.Reveal() != marker {
		t.Error("Reveal does not give the secret")
	}
}

// secretEnviron sets every secret there is.
func secretEnviron() []string {
	environ := with("FHIR_CDC_KAFKA_SASL_USERNAME=u", "FHIR_CDC_KAFKA_SASL_OAUTH_EXTENSIONS=tenant="+marker)
	for _, k := range allKeys() {
		if !k.Secret {
			continue
		}
		value := marker
		if strings.HasSuffix(k.Key, ".uri") {
			value = "mongodb://user:" + marker + "@db:27017/?replicaSet=rs0&tlsCertificateKeyFilePassword=" + marker
		}
		if k.Key == "http.token" {
			value += marker + marker // a short one is refused
		}
		environ = append(environ, k.Env+"="+value)
		if section, ok := strings.CutSuffix(k.Env, "_PASSWORD"); ok {
			environ = append(environ, section+"_USERNAME=u")
		}
	}
	return environ
}

// A list of name=value shows the names.
func TestConfigNeverPrintsSecrets(t *testing.T) {
	cfg, err := load(LoadOptions{Environ: secretEnviron()}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(cfg.MongoDB.Main().URI.Reveal(), marker) {
		t.Fatal("the test sets no secret")
	}
	var texts []string
	for _, encode := range []func() ([]byte, error){cfg.RedactedYAML, cfg.RedactedJSON} {
		text, err := encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("mongodb://[redacted]@db:27017/?replicaSet=rs0")) {
			t.Errorf("hosts and options of the URI are missing:\n%s", text)
		}
		if !bytes.Contains(text, []byte("tenant=[redacted]")) {
			t.Errorf("the name of the extension is missing:\n%s", text)
		}
		texts = append(texts, string(text))
	}
	asJSON, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, string(asJSON), string(asYAML), fmt.Sprint(cfg.Origins()),
		fmt.Sprintf("%v %+v %#v", cfg, cfg, cfg), fmt.Sprintf("%v %+v %#v", *cfg, *cfg, *cfg),
		fmt.Sprintf("%+v", cfg.MongoDB.AccessLogsCluster()))
	for _, text := range texts {
		if strings.Contains(text, marker) {
			t.Errorf("secret shows in:\n%s", text)
		}
	}
}

// TestFaultsNeverShowSecrets gives secrets in every wrong way.
func TestFaultsNeverShowSecrets(t *testing.T) {
	uris := []string{
		marker, "mongodb://u:" + marker, "mongodb://u:a%" + marker + "@h", "mongodb://u:" + marker + ":x@h",
		"mongodb://u:" + marker + "/x@h", "mongodb://u:" + marker + "@x@h", "mongodb://u:#" + marker + "@h:port",
		"mongodb://" + marker + ":x:y", "mongodb://h/" + marker + "%zz", "mongodb://h/?" + marker,
		"mongodb://h/?authMechanismProperties=" + marker, "mongodb://h/?replicaSet=%" + marker, "mongodb+srv://u:" + marker + "@a:1",
	}
	var tests []LoadOptions
	for _, uri := range uris {
		tests = append(
			tests,
			LoadOptions{Environ: with("MONGO_URL=" + uri)},
			LoadOptions{Environ: server, Set: []string{"mongodb.uri=" + uri, "kafka.linger=5"}},
			LoadOptions{Environ: server, File: write(t, "c.yaml", "mongodb: {uri: '"+uri+"'}\nname: '/'")},
		)
	}
	for _, value := range []string{"*" + marker, "&" + marker, "!" + marker, "`" + marker, "%" + marker, "@" + marker, "[" + marker, "{a: " + marker + "}", "- " + marker, "\t" + marker} {
		tests = append(tests, LoadOptions{Environ: server, File: write(t, "c.yaml", "kafka:\n  sasl:\n    enabled: maybe\n    password: "+value+"\n")})
	}
	tests = append(
		tests,
		LoadOptions{Environ: with("MONGO_PASSWORD="+marker, "MONGO_PASSWORD_FILE=/x")},
		LoadOptions{Environ: with("FHIR_CDC_KAFKA_SASL_PASWORD=" + marker)},
		LoadOptions{Environ: with("FHIR_CDC_KAFKA_BROKERS=https://u:" + marker + "@h")},
		LoadOptions{Environ: server, Set: []string{"kafka.sasl.pasword=" + marker}},
	)
	for _, opts := range tests {
		_, err := Load(opts)
		if err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("secret shows in: %v", err)
		}
	}
}

func TestSecretFiles(t *testing.T) {
	tests := []struct {
		name, content, want string
	}{
		{"plain", "s3cret", "s3cret"},
		{"newline", "s3cret\n", "s3cret"},
		{"windows newline", "s3cret\r\n", "s3cret"},
		{"only one newline", "s3cret\n\n", "s3cret\n"},
		{"blanks stay", " s3cret ", " s3cret "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, "secret", test.content)
			for _, variable := range []string{"FHIR_CDC_KAFKA_SASL_PASSWORD_FILE", "KAFKA_SASL_PASSWORD_FILE"} {
				cfg := mustLoad(t, LoadOptions{Environ: with(variable + "=" + path)})
				if got := cfg.Kafka.SASL.Password.Reveal(); got != test.want {
					t.Errorf("%s gives %q, want %q", variable, got, test.want)
				}
			}
		})
	}
	t.Run("server's URL", func(t *testing.T) {
		path := write(t, "url", "mongodb://u:p@h\n")
		cfg := mustLoad(t, LoadOptions{Environ: with("MONGO_URL=", "MONGO_URL_FILE="+path)})
		if got := cfg.MongoDB.Main().URI.Reveal(); got != "mongodb://u:p@h" {
			t.Errorf("URI is %q", got)
		}
	})
	t.Run("empty", func(t *testing.T) {
		text := faultsOf(t, LoadOptions{Environ: with("KAFKA_SASL_PASSWORD_FILE=" + write(t, "s", "\n"))})
		if !strings.Contains(text, "names an empty file") {
			t.Error(text)
		}
	})
	t.Run("endless", func(t *testing.T) {
		if _, err := os.Stat("/dev/zero"); err != nil {
			t.Skip("no endless device on this system")
		}
		text := faultsOf(t, LoadOptions{Environ: with("KAFKA_SASL_PASSWORD_FILE=/dev/zero")})
		if !strings.Contains(text, "is larger than") {
			t.Error(text)
		}
	})
}

// A secret that is written after a colon or a space, by mistake, is not shown.
func TestSetWithoutEqualsShowsNothing(t *testing.T) {
	for _, arg := range []string{"kafka.sasl.password:hunter2", "kafka.sasl.password hunter2", "hunter2"} {
		_, err := Load(LoadOptions{Set: []string{arg}})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "is not key=value") {
			t.Errorf("--set %q: %v", arg, err)
		}
	}
}

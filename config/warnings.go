package config

import (
	"slices"
	"strings"

	"github.com/fhir-cdc/fhir-cdc/mapper"
	"github.com/fhir-cdc/fhir-cdc/resourcetype"
)

// Warnings are settings that are allowed and probably not meant:
// words that count as off, resource types that FHIR does not have, logins that are
// given and not used, secrets on the command line, and a FHIR server that does not write to
// MongoDB what events are made of. They hold no secret.
func (c *Config) Warnings() []Fault { return c.warnings }

// doubts are the warnings of a configuration. doubtful are the warnings of single variables;
// they hold where no stronger origin sets the key.
func (c *Config) doubts(env environ, doubtful []Fault) []Fault {
	var warnings []Fault
	for _, f := range doubtful {
		if c.origins[f.Key].text == f.Origin {
			warnings = append(warnings, f)
		}
	}
	warnings = append(warnings, c.unknownResources()...)
	warnings = append(warnings, c.unusedLogin()...)
	warnings = append(warnings, c.elsewhere(env)...)
	return append(warnings, c.exposedSecrets()...)
}

// elsewhere warns where the FHIR server's variables say that AuditEvents do not go to MongoDB:
// without them most requests leave nothing that a usage event could be made of. fhir-cdc has no
// keys of these variables, because it does not read those other places.
func (c *Config) elsewhere(env environ) []Fault {
	if !c.Events.Of(mapper.KindAccessedEverything).Enabled {
		return nil
	}
	var because []string
	if v, set := env["ENABLE_ACCESS_AUDIT_EVENT"]; set && !serverBool(v) {
		because = append(because, "ENABLE_ACCESS_AUDIT_EVENT")
	}
	if slices.Contains(splitList(env["CLICKHOUSE_ONLY_RESOURCES"]), "AuditEvent") {
		because = append(because, "CLICKHOUSE_ONLY_RESOURCES")
	}
	if serverBool(env["ENABLE_AUDIT_EVENT_CLICKPIPE"]) && serverBool(env["ENABLE_EVENTS_KAFKA_V2"]) {
		because = append(because, "ENABLE_AUDIT_EVENT_CLICKPIPE")
	}
	if len(because) == 0 {
		return nil
	}
	message := "says that the FHIR server does not write AuditEvents to MongoDB: usage events come only of the requests in access logs, which GETs without a body are not"
	if v, set := env["ENABLE_ACCESS_LOGS_MONGODB"]; set && !serverBool(v) {
		because = append(because, "ENABLE_ACCESS_LOGS_MONGODB")
		message = "say that the FHIR server writes neither AuditEvents nor access logs to MongoDB: no usage event can come; switch the kind off here and leave it with the FHIR server"
	}
	return []Fault{{"events." + string(mapper.KindAccessedEverything) + ".enabled", strings.Join(because, ", "), message}}
}

// exposedSecrets are the secrets that are given by flag: every user of the host may read the
// arguments of a process, and shells keep them.
func (c *Config) exposedSecrets() []Fault {
	var warnings []Fault
	for _, s := range specs() {
		value := fieldOf(c, s.key)
		from := c.origins[s.key].text
		if from != "--set" || !isSecret(value.Type()) {
			continue
		}
		// A connection string without a login, as of a local server, tells nothing.
		if uri := value.String(); uri != "" && RedactURI(uri) != uri {
			warnings = append(warnings, Fault{s.key, from, "is a secret, and the arguments of a process can be read by others: use a variable, or one that ends in _FILE"})
		}
	}
	return warnings
}

// unknownResources are the resource types that FHIR does not have. They are no faults:
// a server could have a type of its own.
func (c *Config) unknownResources() []Fault {
	var warnings []Fault
	for _, kind := range c.Events.Enabled() {
		if kind.ResourcesVariable != "" {
			warnings = append(warnings, c.unknownOf("events."+string(kind.Name)+".resources", c.Events.ResourcesOf(kind))...)
		}
	}
	return warnings
}

func (c *Config) unknownOf(key string, names []string) []Fault {
	var warnings []Fault
	for _, name := range names {
		if resourcetype.Known(name) {
			continue
		}
		message := "names " + shown(name) + ", a resource type that FHIR does not have: without collections of that name there will be no event of it"
		if meant := resourcetype.Meant(name); meant != "" {
			message += "; did you mean " + meant + "?"
		}
		warnings = append(warnings, Fault{key, c.origins[key].text, message})
	}
	return warnings
}

// unusedLogin are the parts of a login to Kafka that are given while logins are off. They
// are no faults: the FHIR server takes them in silence, and the two share an environment.
func (c *Config) unusedLogin() []Fault {
	if !c.HasTopics() || c.Kafka.SASL.Enabled {
		return nil
	}
	var warnings []Fault
	for _, key := range []string{"kafka.sasl.username", "kafka.sasl.password", "kafka.sasl.token", "kafka.sasl.oauth.token_endpoint"} {
		if from, set := c.origins[key]; set && plain(fieldOf(c, key)) != "" {
			warnings = append(warnings, Fault{key, from.text, "is set but not used, since kafka.sasl.enabled is false: set KAFKA_SASL=1 to log in"})
		}
	}
	return warnings
}

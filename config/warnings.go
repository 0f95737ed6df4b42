package config

import "github.com/fhir-cdc/fhir-cdc/resourcetype"

// Warnings are what is not wrong with a configuration and probably not what was meant:
// words that count as off, resource types that FHIR does not have, and logins that are
// given and not used. They hold no secret.
func (c *Config) Warnings() []Fault { return c.warnings }

// doubts are the warnings of a configuration; doubtful are those of single variables,
// which hold where no stronger source sets the key.
func (c *Config) doubts(doubtful []Fault) []Fault {
	var warnings []Fault
	for _, f := range doubtful {
		if c.sources[f.Key].text == f.Source {
			warnings = append(warnings, f)
		}
	}
	warnings = append(warnings, c.unknownResources()...)
	return append(warnings, c.unusedLogin()...)
}

// unknownResources are the resource types that FHIR does not have. They are no faults:
// a server could have a type of its own.
func (c *Config) unknownResources() []Fault {
	if !c.Events.Change.Enabled {
		return nil
	}
	const key = "events.change.resources"
	var warnings []Fault
	for _, name := range c.Events.Change.Resources {
		if resourcetype.Known(name) {
			continue
		}
		message := "names " + shown(name) + ", a resource type that FHIR does not have: without collections of that name there will be no event of it"
		if meant := resourcetype.Meant(name); meant != "" {
			message += "; did you mean " + meant + "?"
		}
		warnings = append(warnings, Fault{key, c.sources[key].text, message})
	}
	return warnings
}

// unusedLogin are the parts of a login to Kafka that are given while logins are off. They
// are no faults: the FHIR server takes them in silence, and the two share an environment.
func (c *Config) unusedLogin() []Fault {
	if c.Sink != SinkKafka || c.Kafka.SASL.Enabled {
		return nil
	}
	var warnings []Fault
	for _, key := range []string{"kafka.sasl.username", "kafka.sasl.password", "kafka.sasl.token", "kafka.sasl.oauth.token_endpoint"} {
		if from, set := c.sources[key]; set && plain(fieldOf(c, key)) != "" {
			warnings = append(warnings, Fault{key, from.text, "is set but not used, since kafka.sasl.enabled is false: set KAFKA_SASL=1 to log in"})
		}
	}
	return warnings
}

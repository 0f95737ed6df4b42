package config

// examples are values that work, by key, for the reference: of keys without a default whose
// values have a form. A test parses each.
func examples() map[string]string {
	return map[string]string{
		"streams":                         "[{name: hot, resources: [Observation], slices: 2}]",
		"mongodb.uri":                     "mongodb://mongo:27017/?replicaSet=rs0",
		"kafka.brokers":                   "kafka-0:9092,kafka-1:9092",
		"kafka.sasl.oauth.token_endpoint": "https://login.example/oauth2/token",
		"kafka.sasl.oauth.extensions":     "logicalCluster=lkc-1",
		"http.allowed_hosts":              "cdc.example.org",
		"tracing.endpoint":                "http://otel-collector:4318",
	}
}

// Package config turns a file, the environment and flags into one typed,
// validated Config.
//
// A value comes from the strongest origin that names it: flags, then FHIR_CDC_*
// variables, then the FHIR server's own variables (so that a deployment of the
// server can be reused as it is), then the file, then the defaults. Unknown keys
// and unknown FHIR_CDC_* variables are faults, and all faults are reported at
// once, each with the place that it comes from.
//
// Secrets have a type of their own that never prints; see Secret.
//
// daemon and the packages below it do not import config: they take their settings through
// their own constructors.
package config

// Package alerts checks deploy/alerts and deploy/dashboards with Prometheus's own
// libraries: the rules are rules, every metric they name exists (docs/metrics.md, which
// a test holds equal to the code), every alert fires when it should, and none does on what
// /metrics said in a real run where all was well.
//
// It is a module of its own, so that Prometheus does not burden the daemon's.
package alerts

package status

import "github.com/fhir-cdc/fhir-cdc/daemon"

// repair is how far the repair of a stream's lost history has come.
type repair struct {
	Since       string  `json:"since"`
	Began       string  `json:"began"`
	Collection  string  `json:"collection"`
	Scanned     int64   `json:"scanned"`
	Total       int64   `json:"total"`
	PerSecond   float64 `json:"perSecond,omitempty"`
	SecondsLeft float64 `json:"secondsLeft,omitempty"`
	Events      int64   `json:"events"`
	DeadLetters int64   `json:"deadLetters"`
	WaitsFor    string  `json:"waitsFor,omitempty"`
}

func describeRepair(r *daemon.RepairProgress) *repair {
	return &repair{
		Since: stamp(r.Since), Began: stamp(r.Began), Collection: r.Collection, Scanned: r.Scanned, Total: r.Total,
		PerSecond: r.Rate, SecondsLeft: r.Left.Seconds(), Events: r.Events, DeadLetters: r.DeadLetters, WaitsFor: r.WaitsFor,
	}
}

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"

	"github.com/fhir-cdc/fhir-cdc/test/fhirserver"
	"github.com/fhir-cdc/fhir-cdc/test/harness"
)

// step is one request to the FHIR server.
type step struct {
	// request and writes say what is asked and what the server then writes.
	request, writes string
	// do writes it. It returns the ids of the events that must come of it.
	do func(ctx context.Context) (events []string, err error)
}

// history is a short life of a FHIR server's data. Each step goes on from what the
// ones before have made.
type history struct {
	server *fhirserver.Server
	site   harness.Site
	// Ids carry a suffix, since a shared server may see the demo twice.
	suffix  string
	person  fhirserver.Resource
	consent fhirserver.Resource
	export  fhirserver.Resource
}

func newHistory(server *fhirserver.Server, site harness.Site) *history {
	var random [3]byte
	_, _ = rand.Read(random[:]) // never fails
	return &history{server: server, site: site, suffix: hex.EncodeToString(random[:])}
}

// steps are the history up to the crash.
func (h *history) steps() []step {
	d := h.site.Databases
	consent := "Consent/consent-" + h.suffix
	return []step{
		{
			request: "PUT Person, twice: the person of an app, and the master person that links to it",
			writes:  d.Main + ".Person_4_0_0; no event: events.change.resources names Consent and ExportStatus only",
			do:      h.createPersons,
		},
		{
			request: "PUT " + consent,
			writes:  "insert into " + d.Main + ".Consent_4_0_0, and 20 ms later its history, which knows the request",
			do:      h.createConsent,
		},
		{
			request: "PUT " + consent + ", changed",
			writes:  "replace in " + d.Main + ".Consent_4_0_0, then its history",
			do:      h.changeConsent,
		},
		{
			request: "$export: the job is accepted",
			writes:  "insert into " + d.Main + ".ExportStatus_4_0_0, which has no history: one change, two records",
			do:      h.beginExport,
		},
		{request: "the export begins", writes: "replace, status in-progress", do: h.exportStatus("in-progress")},
		{request: "the export is done", writes: "replace, status completed", do: h.exportStatus("completed")},
		{
			request: "GET Patient/person.…/$everything by a patient's token",
			writes:  "three AuditEvents into " + d.AuditEvents + ".AuditEvent_4_0_0: one request, so one record",
			do:      h.everything(3, false),
		},
		{
			request: "GET Patient/person.…/$everything once more, with a body",
			writes:  "two AuditEvents, and an access log into " + d.AccessLogs + ".access-logs: still one record",
			do:      h.everything(2, true),
		},
	}
}

func (h *history) createPersons(ctx context.Context) (_ []string, err error) {
	if h.person, err = h.server.CreatePerson(ctx, uuid.NewString()); err != nil {
		return nil, err
	}
	_, err = h.server.CreateMasterPerson(ctx, uuid.NewString(), h.person)
	return nil, err
}

func (h *history) createConsent(ctx context.Context) (_ []string, err error) {
	h.consent, err = h.server.CreateConsent(ctx, "consent-"+h.suffix)
	return []string{changeID(h.consent)}, err
}

func (h *history) changeConsent(ctx context.Context) (_ []string, err error) {
	h.consent, err = h.server.ReplaceConsent(ctx, h.consent)
	return []string{changeID(h.consent)}, err
}

func (h *history) beginExport(ctx context.Context) (_ []string, err error) {
	h.export, err = h.server.CreateExportStatus(ctx, uuid.NewString())
	return []string{changeID(h.export), exportID(h.export)}, err
}

func (h *history) exportStatus(status string) func(context.Context) ([]string, error) {
	return func(ctx context.Context) (_ []string, err error) {
		h.export, err = h.server.SetStatus(ctx, h.export, status)
		return []string{changeID(h.export), exportID(h.export)}, err
	}
}

func (h *history) everything(auditEvents int, accessLog bool) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		request, err := h.server.Everything(ctx, h.person.UUID, auditEvents, accessLog)
		if err != nil {
			return nil, fmt.Errorf("$everything: %w", err)
		}
		return []string{harness.AccessedEverythingID(request.SystemID)}, nil
	}
}

func changeID(r fhirserver.Resource) string {
	return harness.ChangeID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
}

func exportID(r fhirserver.Resource) string {
	return harness.ExportID(r.Namespace, r.UUID, r.VersionID, r.LastUpdated)
}

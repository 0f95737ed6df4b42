// Package hapi holds strict AuditEvents against FHIR R4, by HAPI FHIR's validator. Its
// definitions come with it, so that it asks no server.
package hapi

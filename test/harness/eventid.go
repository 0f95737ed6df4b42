package harness

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// eventNamespace is the UUID under which the daemon makes event ids.
const eventNamespace = "03eceb60-74a8-5244-b8c7-cd1591580cbb"

// ChangeID is the id of the change event of a version: namespace is
// "database.collection", and the time is the version's meta.lastUpdated.
func ChangeID(namespace, uuid, versionID string, lastUpdated time.Time) string {
	return versionEventID("change", namespace, uuid, versionID, lastUpdated)
}

// DeleteID is the id of the event of a deletion: the version is the last one.
func DeleteID(namespace, uuid, versionID string, lastUpdated time.Time) string {
	return versionEventID("change/delete", namespace, uuid, versionID, lastUpdated)
}

// ExportID is the id of the bulk export event of a version of an ExportStatus.
func ExportID(namespace, uuid, versionID string, lastUpdated time.Time) string {
	return versionEventID("export", namespace, uuid, versionID, lastUpdated)
}

// ResourceChangeID is the id of the compact event of a version.
func ResourceChangeID(namespace, uuid, versionID string, lastUpdated time.Time) string {
	return versionEventID("resource_change", namespace, uuid, versionID, lastUpdated)
}

// ResourceDeleteID is the id of the compact event of a deletion: the version is the last one.
func ResourceDeleteID(namespace, uuid, versionID string, lastUpdated time.Time) string {
	return versionEventID("resource_change/delete", namespace, uuid, versionID, lastUpdated)
}

// PersonLinkID is the id of the person link event of a version of a Person.
func PersonLinkID(namespace, uuid, versionID string, lastUpdated time.Time) string {
	return versionEventID("person_link", namespace, uuid, versionID, lastUpdated)
}

// DataChangeID is the id of a data change event of a patient or person (kind) in a window that begins
// at a second.
func DataChangeID(kind, uuid string, start, length int64) string {
	const millis = 1000
	window := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(start*millis)), uint64(length*millis))
	return eventID(kind+"_data_change", uuid, string(window))
}

// AccessedEverythingID is the id of the usage event of a request, by the FHIR
// server's own id of the request.
func AccessedEverythingID(requestID string) string {
	return eventID("accessed_everything", requestID)
}

func versionEventID(kind, namespace, uuid, versionID string, lastUpdated time.Time) string {
	at := binary.BigEndian.AppendUint64(nil, uint64(lastUpdated.UnixMilli()))
	return eventID(kind, namespace, uuid, versionID, string(at))
}

// eventID is a UUID version 5 whose name is the parts, a zero byte before each.
func eventID(parts ...string) string {
	var name []byte
	for _, p := range parts {
		name = append(append(name, 0), p...)
	}
	return uuid.NewSHA1(uuid.MustParse(eventNamespace), name).String()
}

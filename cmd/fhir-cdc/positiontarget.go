package main

import "go.mongodb.org/mongo-driver/v2/bson"

// positionTarget is where a stream is to go on; one of the four is set.
type positionTarget struct {
	time        *pastTime
	clusterTime *clusterTimeFlag
	token       *resumeToken
	now         bool
}

func (t positionTarget) String() string {
	switch {
	case t.now:
		return "now"
	case t.token.raw != nil:
		return "token"
	case !t.clusterTime.at.IsZero():
		return t.clusterTime.String()
	}
	return t.time.String()
}

// at is the cluster time of the target, zero for now.
func (t positionTarget) at() bson.Timestamp {
	switch {
	case t.token.raw != nil:
		return t.token.at
	case !t.clusterTime.at.IsZero():
		return t.clusterTime.at
	case !t.time.IsZero():
		return at(t.time.Time)
	}
	return bson.Timestamp{}
}

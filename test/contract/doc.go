// Package contract writes the contract with consumers as files, JSON Schemas and an AsyncAPI
// document, and holds records against it.
//
// The kinds come from mapper.Kinds. What a value, the headers and the key may be is written
// here from the documented form, not with the mapper's code, so that a comparison of the two
// proves something. The program has no use for any of this, so it is a package for tests.
package contract

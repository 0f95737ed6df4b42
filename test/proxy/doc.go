// Package proxy is a network between a client and a server that tests can make
// bad: it cuts connections, lets nothing through for a while, is slow, and loses or
// delays single requests and answers, picked by what they ask for: the answer to the
// next EndTxn, the request of the next getMore. A request can also come late, on another
// connection, after the client has given it up.
//
// It listens on loopback and takes messages as they are; TLS, compression of the
// MongoDB protocol and authentication to the server's name do not go through it.
package proxy

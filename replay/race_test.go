//go:build race

package replay

// raceDetector multiplies memory, so what it measures is not the program's.
const raceDetector = true

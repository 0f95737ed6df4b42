package replay

import "time"

// meter measures the scan of one collection.
type meter struct {
	began, told    time.Time
	scanned, total int64
}

func newMeter(total int64) meter {
	now := time.Now()
	return meter{began: now, told: now, total: total}
}

func (m *meter) add(n int64) {
	m.scanned += n
	m.total = max(m.total, m.scanned) // the total is an estimate
}

// rate is the documents of a second, and the time that the rest takes at that rate.
func (m *meter) rate() (perSecond float64, left time.Duration) {
	took := time.Since(m.began).Seconds()
	if took <= 0 || m.scanned == 0 {
		return 0, 0
	}
	perSecond = float64(m.scanned) / took
	return perSecond, time.Duration(float64(m.total-m.scanned) / perSecond * float64(time.Second))
}

// due tells, once an interval, that it is time to tell of the scan.
func (m *meter) due(interval time.Duration) bool {
	if time.Since(m.told) < interval {
		return false
	}
	m.told = time.Now()
	return true
}

package status

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// slowMetric is a metric that takes until it is let go on.
type slowMetric struct{ asked, goOn chan struct{} }

func (m slowMetric) desc() *prometheus.Desc              { return prometheus.NewDesc("slow", "Slow.", nil, nil) }
func (m slowMetric) Describe(ch chan<- *prometheus.Desc) { ch <- m.desc() }

func (m slowMetric) Collect(ch chan<- prometheus.Metric) {
	close(m.asked)
	<-m.goOn
	ch <- prometheus.MustNewConstMetric(m.desc(), prometheus.GaugeValue, 1)
}

// pipe is a listener to which one connection is made, in memory.
type pipe struct {
	connections chan net.Conn
	once        sync.Once
}

func (p *pipe) Addr() net.Addr { return &net.TCPAddr{} }
func (p *pipe) Close() error   { p.once.Do(func() { close(p.connections) }); return nil }

func (p *pipe) Accept() (net.Conn, error) {
	if c, ok := <-p.connections; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

// A scrape that is under way when the process is told to stop gets its whole answer, and
// the port is not closed before; one that comes to no end is given up.
func TestStopWaitsForAnswers(t *testing.T) {
	for name, ends := range map[string]bool{"an answer that ends": true, "one that does not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				registry, metric := prometheus.NewRegistry(), slowMetric{make(chan struct{}), make(chan struct{})}
				registry.MustRegister(metric)
				listener := &pipe{connections: make(chan net.Conn, 1)}
				client, server := net.Pipe()
				listener.connections <- server
				ctx, stop := context.WithCancel(t.Context())
				closed := make(chan error, 1)
				go func() { closed <- New(Options{}, views(), registry, zap.NewNop()).Serve(ctx, listener) }()
				if _, err := io.WriteString(client, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				<-metric.asked
				stop()
				synctest.Wait()
				select {
				case err := <-closed:
					t.Fatalf("the port is closed (%v) while an answer is under way", err)
				default:
				}
				if !ends {
					began := time.Now()
					if err := <-closed; err != nil || time.Since(began) > shutdownTimeout {
						t.Errorf("the stop took %s: %v", time.Since(began), err)
					}
					close(metric.goOn)
					return
				}
				close(metric.goOn)
				response, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
					t.Errorf("answer %s, %v", response.Status, err)
				}
				if err := <-closed; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// Package statuspage_test looks at the status page as an operator does: in a real
// browser, of the built daemon, beside a real MongoDB and a real Kafka.
//
// It needs Chromium (the Debian package chromium). Without it the test is skipped with
// that reason, and fails if CI=true is set. Screenshots go to the folder that
// FHIR_CDC_TEST_SCREENSHOTS names, or to one that the test prints.
package statuspage_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/fhir-cdc/fhir-cdc/test/harness"
	"github.com/fhir-cdc/fhir-cdc/test/services"
)

// envScreenshots names the folder for screenshots.
const envScreenshots = "FHIR_CDC_TEST_SCREENSHOTS"

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// browser is one tab.
type browser struct {
	t   *testing.T
	ctx context.Context
	dir string

	mu sync.Mutex
	// problems are what the page's console complains of.
	problems []string
}

// openBrowser starts Chromium with a profile of its own.
func openBrowser(t *testing.T, ctx context.Context) *browser { //nolint:revive // a test's helper takes t first.
	t.Helper()
	services.Needs(t, "a browser")
	path, err := chromium()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := os.Getenv(envScreenshots)
	if dir == "" {
		if dir, err = os.MkdirTemp("", "fhir-cdc-screenshots-"); err != nil {
			t.Fatal(err)
		}
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("screenshots are in %s", dir)
	profile, err := os.MkdirTemp("", "fhir-cdc-browser-")
	if err != nil {
		t.Fatal(err)
	}
	options := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.WSURLReadTimeout(time.Minute),
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(ctx, options...)
	// Chromium is newer than the library and tells of things that it does not know.
	tab, stop := chromedp.NewContext(allocator, chromedp.WithErrorf(func(string, ...any) {}))
	t.Cleanup(func() {
		_ = chromedp.Cancel(tab) // waits until Chromium has ended
		stop()
		stopAllocator()
		// Processes of Chromium's write there for a moment after it has ended. The test's own context
		// has ended by now.
		leaving, left := context.WithTimeout(context.WithoutCancel(ctx), testTimeout)
		defer left()
		for os.RemoveAll(profile) != nil {
			select {
			case <-leaving.Done():
				t.Errorf("remove %s: Chromium still writes there", profile)
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	b := &browser{t: t, ctx: tab, dir: dir}
	chromedp.ListenTarget(tab, b.listen)
	b.do(log.Enable(), runtime.Enable())
	return b
}

// chromium finds the browser.
func chromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no Chromium: install the Debian package chromium")
}

// listen notes exceptions, and errors of the console: a breach of the policy is one.
func (b *browser) listen(event any) {
	text := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Error()
	case *log.EventEntryAdded:
		// That a control is refused is part of the test.
		if e.Entry.Level == log.LevelError && e.Entry.Source != log.SourceNetwork {
			text = e.Entry.Text
		}
	}
	if text != "" {
		b.mu.Lock()
		b.problems = append(b.problems, text)
		b.mu.Unlock()
	}
}

func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval is the value of a JavaScript expression.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	var value T
	b.do(chromedp.Evaluate(expression, &value))
	return value
}

// until waits until an expression is true in the page.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for !eval[bool](b, expression) {
		select {
		case <-ticker.C:
		case <-b.ctx.Done():
			b.t.Fatalf("wait until %s: %v", what, context.Cause(b.ctx))
		}
	}
}

// text is what an element shows.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return strings.TrimSpace(eval[string](b, fmt.Sprintf("document.querySelector(%q).textContent", selector)))
}

// asks has tokens refused for the private part of the page, which then shows nothing.
func (b *browser) asks(wrong ...string) {
	b.t.Helper()
	for _, t := range wrong {
		b.do(chromedp.Evaluate(fmt.Sprintf("document.querySelector('#token').value = %q", t), nil), chromedp.Click("#show", chromedp.ByQuery))
		b.until("the token is refused", `document.querySelector("#told").textContent === "The token is missing or wrong." && document.querySelector("#lists").textContent === ""`)
		b.do(chromedp.Evaluate(`document.querySelector("#told").textContent = ""`, nil))
	}
}

// rowsOf is the number of rows of a list of the private part.
func rowsOf(list string) string {
	return fmt.Sprintf(`document.querySelectorAll("#list-%s tbody tr").length`, list)
}

// dress sets the colours that the browser asks for, and the size of its window.
func (b *browser) dress(scheme string, width, height int64) {
	b.t.Helper()
	b.do(
		emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		emulation.SetDeviceMetricsOverride(width, height, 1, width < 500),
	)
}

// shoot keeps a picture of the whole page.
func (b *browser) shoot(name string) {
	b.t.Helper()
	var picture []byte
	b.do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		picture, err = page.CaptureScreenshot().WithFormat(page.CaptureScreenshotFormatPng).WithCaptureBeyondViewport(true).Do(ctx)
		return err
	}))
	if err := os.WriteFile(filepath.Join(b.dir, name+".png"), picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func address(host string) string { return (&url.URL{Scheme: "http", Host: host, Path: "/"}).String() }

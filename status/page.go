package status

import (
	"embed"
	"net/http"
	"path"
)

// pages are the status page's files: it loads nothing from elsewhere.
//
//go:embed page
var pages embed.FS

// page serves one file of the status page.
func page(name, contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		content, err := pages.ReadFile(path.Join("page", name))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(content)
	}
}

// routePage adds the page's routes.
func routePage(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", page("index.html", "text/html; charset=utf-8"))
	mux.HandleFunc("GET /assets/page.css", page("page.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /assets/page.js", page("page.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("GET /assets/icon.svg", page("icon.svg", "image/svg+xml"))
}

// policy lets the page load resources of this port only, and forbids frames around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// secure sets the headers that make a browser keep the port's answers apart from
// everything else that it shows.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy":      policy,
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Referrer-Policy":              "no-referrer",
			"Permissions-Policy":           "camera=(), geolocation=(), microphone=()",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control":                "no-store",
		} {
			w.Header().Set(name, value)
		}
		next.ServeHTTP(w, r)
	})
}

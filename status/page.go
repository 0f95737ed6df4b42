package status

import (
	"embed"
	"net/http"
	"path"
)

// pages are the status page and what it is made of: everything comes from here.
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

package status

import (
	"context"
	"encoding/json"
	"net/http"

	"go.uber.org/zap"
)

// Detailer makes what /details gives, as JSON, to those who have the token. With ids, documents
// are named by their ids.
type Detailer func(ctx context.Context, ids bool) any

// details answers those who have the token.
func (s *Server) details(w http.ResponseWriter, r *http.Request) {
	if !s.admits(w, r, "details") {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(s.opts.Details(r.Context(), r.URL.Query().Get("ids") == "shown")); err != nil {
		s.log.Debug("details were not read to their end", zap.Error(err))
	}
}

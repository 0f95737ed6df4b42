package config

import "fmt"

// minToken is the least length of http.token: what is shorter can be guessed.
const minToken = 16

func (v *validator) http() {
	h := v.cfg.HTTP
	if n := len(h.Token.Reveal()); n > 0 && n < minToken {
		v.fault("http.token", fmt.Sprintf("has %d characters, which can be guessed: use %d or more, such as those of openssl rand -hex 32", n, minToken))
	}
	if (h.TLS.CertFile == "") != (h.TLS.KeyFile == "") {
		v.fault("http.tls.cert_file", "goes together with http.tls.key_file: set both or none")
	}
}

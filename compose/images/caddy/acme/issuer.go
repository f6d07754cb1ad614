package acme

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"
)

// Issuer is Caddy's ACME issuer, with the authority of the directory's own certificate in the configuration instead of in a
// file: whoever configures Caddy has only its admin socket.
type Issuer struct {
	caddytls.ACMEIssuer
	// TrustedRootsPEM has the certificates, instead of those of the web.
	TrustedRootsPEM string `json:"trusted_roots_pem,omitempty"`
}

// CaddyModule tells Caddy of it.
func (Issuer) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "tls.issuance.cell", New: func() caddy.Module { return new(Issuer) }}
}

// Provision writes the authority where Caddy's issuer reads it. The name is of the content, so that two configurations
// that overlap do not write the same file differently.
func (i *Issuer) Provision(ctx caddy.Context) error {
	if i.TrustedRootsPEM != "" {
		sum := sha256.Sum256([]byte(i.TrustedRootsPEM))
		file := filepath.Join(caddy.AppDataDir(), "cell", "authority-"+hex.EncodeToString(sum[:8])+".pem")
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return fmt.Errorf("the authority cannot be written down: %w", err)
		}
		if err := os.WriteFile(file, []byte(i.TrustedRootsPEM), 0o600); err != nil {
			return fmt.Errorf("the authority cannot be written down: %w", err)
		}
		i.TrustedRootsPEMFiles = []string{file}
	}
	// The TLS app provisions issuers after it made the place of its certificates.
	hasTLS.Store(true)
	return i.ACMEIssuer.Provision(ctx)
}

func init() { caddy.RegisterModule(Issuer{}) }

var (
	_ caddy.Provisioner     = (*Issuer)(nil)
	_ certmagic.Issuer      = (*Issuer)(nil)
	_ certmagic.PreChecker  = (*Issuer)(nil)
	_ certmagic.Revoker     = (*Issuer)(nil)
	_ caddytls.ConfigSetter = (*Issuer)(nil)
)

// Package acme is what the cell's Caddy has beside its standard modules, so that it gets certificates of public names by
// DNS-01 (RFC 8555, section 8.4): the DNS providers, an issuer that is told its authority in the configuration, and what
// became of a certificate.
//
// The providers are written here and not taken from github.com/caddy-dns: those modules are not on every module proxy, and
// each of these is a handful of requests that its maker documents.
package acme

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"github.com/libdns/libdns"
)

const (
	// tokenMax is the longest token that is read, bytes.
	tokenMax = 4096
	// answerMax is the most of an answer that is read, bytes.
	answerMax = 1 << 20
	// patience is how long one request may take.
	patience = 20 * time.Second
	// ttl is that of a record where nobody says another: as short as Cloudflare takes.
	ttl = 120 * time.Second
)

// Provider writes TXT records at whoever answers for a domain. Its secret is a file that is read at each use, so that a new
// one is in force with the next record, and is in no configuration.
type Provider struct {
	// Kind is duckdns, cloudflare or rfc2136.
	Kind string `json:"provider"`
	// TokenFile has the provider's token, or the TSIG key as base64, in its first line.
	TokenFile string `json:"token_file"`
	// Server takes updates: an address and a port. rfc2136 alone.
	Server string `json:"server,omitempty"`
	// KeyName is the TSIG key's name (RFC 8945). rfc2136 alone.
	KeyName string `json:"key_name,omitempty"`
	// KeyAlgorithm is hmac-sha256, hmac-sha384 or hmac-sha512. rfc2136 alone.
	KeyAlgorithm string `json:"key_algorithm,omitempty"`

	// Where the provider's interface is, if not where its maker has it: of no configuration, since a token goes there.
	api    string
	writer writer
	client *http.Client
}

// writer writes and removes the TXT record of a whole name, which has its last dot.
type writer interface {
	add(ctx context.Context, secret, name, value string, ttl time.Duration) error
	remove(ctx context.Context, secret, name, value string) error
}

// CaddyModule tells Caddy of it.
func (Provider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "dns.providers.cell", New: func() caddy.Module { return new(Provider) }}
}

// Provision reads the configuration. Whether the token is there is looked at when it is used: it may come later.
func (p *Provider) Provision(caddy.Context) error {
	if p.TokenFile == "" {
		return errors.New("token_file is missing")
	}
	p.client = &http.Client{
		Timeout: patience,
		// Nobody but the provider itself is to hear of the token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	switch p.Kind {
	case "duckdns":
		p.writer = &duckdns{api: or(p.api, "https://www.duckdns.org"), client: p.client}
	case "cloudflare":
		p.writer = &cloudflare{api: or(p.api, "https://api.cloudflare.com/client/v4"), client: p.client}
	case "rfc2136":
		update, err := newUpdate(p.Server, p.KeyName, p.KeyAlgorithm)
		if err != nil {
			return err
		}
		p.writer = update
	default:
		return fmt.Errorf("provider %q is none of duckdns, cloudflare and rfc2136", p.Kind)
	}
	return nil
}

// AppendRecords writes TXT records.
func (p *Provider) AppendRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return p.each(zone, records, func(secret, name string, record libdns.RR) error {
		lifetime := record.TTL
		if lifetime < time.Second {
			lifetime = ttl
		}
		return p.writer.add(ctx, secret, name, record.Data, lifetime)
	})
}

// DeleteRecords removes TXT records. What is not there is removed.
func (p *Provider) DeleteRecords(ctx context.Context, zone string, records []libdns.Record) ([]libdns.Record, error) {
	return p.each(zone, records, func(secret, name string, record libdns.RR) error {
		return p.writer.remove(ctx, secret, name, record.Data)
	})
}

func (p *Provider) each(zone string, records []libdns.Record, do func(string, string, libdns.RR) error) ([]libdns.Record, error) {
	secret, err := p.secret()
	if err != nil {
		return nil, err
	}
	var done []libdns.Record
	for _, one := range records {
		record := one.RR()
		if record.Type != "TXT" {
			return done, fmt.Errorf("only TXT records are written, not %s", record.Type)
		}
		name := libdns.AbsoluteName(record.Name, zone)
		// Whatever is asked, nothing but the proof of a domain is written with the household's token.
		if !strings.HasPrefix(name, "_acme-challenge.") {
			return done, fmt.Errorf("only records of _acme-challenge are written, not %s", name)
		}
		if err := do(secret, name, record); err != nil {
			return done, fmt.Errorf("%s: %w", p.Kind, err)
		}
		done = append(done, libdns.TXT{Name: record.Name, TTL: record.TTL, Text: record.Data})
	}
	return done, nil
}

// secret reads the first line of the token's file.
func (p *Provider) secret() (string, error) {
	file, err := os.Open(p.TokenFile)
	if err != nil {
		return "", fmt.Errorf("the provider's token is not there: %w", err)
	}
	defer file.Close()
	text, err := readAll(file, tokenMax)
	if err != nil {
		return "", fmt.Errorf("the provider's token: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	line = strings.TrimSpace(line)
	if line == "" {
		return "", fmt.Errorf("the provider's token is empty: %s", p.TokenFile)
	}
	return line, nil
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return strings.TrimSuffix(text, "/")
}

func init() { caddy.RegisterModule(Provider{}) }

var (
	_ caddy.Provisioner     = (*Provider)(nil)
	_ certmagic.DNSProvider = (*Provider)(nil)
)

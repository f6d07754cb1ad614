package acme

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// fudge is how far the server's clock may be off, seconds (RFC 8945, section 10).
const fudge = 300

// update writes records by DNS UPDATE (RFC 2136), each message signed (RFC 8945), over TCP.
type update struct {
	server    string
	key       string
	algorithm string
}

func newUpdate(server, key, algorithm string) (*update, error) {
	if _, err := netip.ParseAddrPort(server); err != nil {
		return nil, errors.New("server must be an address and a port")
	}
	if _, ok := dns.IsDomainName(key); !ok || key == "" {
		return nil, errors.New("key_name must be a name")
	}
	switch algorithm {
	case "hmac-sha256", "hmac-sha384", "hmac-sha512":
	default:
		return nil, errors.New("key_algorithm must be hmac-sha256, hmac-sha384 or hmac-sha512")
	}
	return &update{server: server, key: dns.CanonicalName(key), algorithm: dns.Fqdn(algorithm)}, nil
}

func (u *update) add(ctx context.Context, secret, name, value string, lifetime time.Duration) error {
	return u.send(ctx, secret, name, func(message *dns.Msg) {
		message.Insert([]dns.RR{record(name, value, uint32(lifetime.Seconds()))})
	})
}

func (u *update) remove(ctx context.Context, secret, name, value string) error {
	return u.send(ctx, secret, name, func(message *dns.Msg) {
		message.Remove([]dns.RR{record(name, value, 0)})
	})
}

func record(name, value string, lifetime uint32) dns.RR {
	header := dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: lifetime}
	return &dns.TXT{Hdr: header, Txt: []string{value}}
}

func (u *update) send(ctx context.Context, secret, name string, fill func(*dns.Msg)) error {
	if _, err := base64.StdEncoding.DecodeString(secret); err != nil {
		return errors.New("the TSIG key is no base64")
	}
	zone, err := u.zone(ctx, name)
	if err != nil {
		return err
	}
	message := new(dns.Msg)
	message.SetUpdate(zone)
	fill(message)
	message.SetTsig(u.key, u.algorithm, fudge, time.Now().Unix())
	client := dns.Client{Net: "tcp", Timeout: patience, TsigSecret: map[string]string{u.key: secret}}
	// What comes back unsigned, or signed by another key, is an error of it.
	answer, _, err := client.ExchangeContext(ctx, message, u.server)
	switch {
	case answer != nil && answer.Rcode == dns.RcodeNotAuth:
		return fmt.Errorf("%s does not take the key (NOTAUTH): its name, algorithm or secret differ", u.server)
	case err != nil:
		return fmt.Errorf("%s: %w", u.server, err)
	case answer.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("%s refuses the update of %s: %s", u.server, zone, dns.RcodeToString[answer.Rcode])
	}
	return nil
}

// zone asks the server itself which of its zones a name is in: others may be told of another one (split horizon).
func (u *update) zone(ctx context.Context, name string) (string, error) {
	client := dns.Client{Net: "tcp", Timeout: patience}
	for _, at := range dns.Split(name) {
		question := new(dns.Msg)
		question.SetQuestion(name[at:], dns.TypeSOA)
		answer, _, err := client.ExchangeContext(ctx, question, u.server)
		if err != nil {
			return "", fmt.Errorf("%s: %w", u.server, err)
		}
		for _, one := range answer.Answer {
			if soa, ok := one.(*dns.SOA); ok && strings.EqualFold(soa.Hdr.Name, name[at:]) {
				return soa.Hdr.Name, nil
			}
		}
	}
	return "", fmt.Errorf("%s has no zone of %s", u.server, name)
}

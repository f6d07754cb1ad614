package acme

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/miekg/dns"
)

const key = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IDMyISE="

// nameserver takes updates of example.org that are signed by the key "cell.", and tells them.
func nameserver(t *testing.T) (string, chan dns.RR) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	updates := make(chan dns.RR, 8)
	handle := func(to dns.ResponseWriter, asked *dns.Msg) {
		answer := new(dns.Msg).SetReply(asked)
		switch {
		case asked.Opcode == dns.OpcodeQuery:
			if asked.Question[0].Name == "example.org." {
				soa, _ := dns.NewRR("example.org. 60 IN SOA ns host 1 60 60 60 60")
				answer.Answer = []dns.RR{soa}
			} else {
				answer.Rcode = dns.RcodeNameError
			}
		case asked.IsTsig() == nil || to.TsigStatus() != nil:
			answer.Rcode = dns.RcodeNotAuth
		case asked.Question[0].Name != "example.org.":
			answer.Rcode = dns.RcodeNotZone
		default:
			for _, one := range asked.Ns {
				updates <- one
			}
			answer.SetTsig("cell.", dns.HmacSHA256, fudge, int64(asked.IsTsig().TimeSigned))
		}
		to.WriteMsg(answer)
	}
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(handle), TsigSecret: map[string]string{"cell.": key},
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return listener.Addr().String(), updates
}

func TestAnUpdateIsSignedAndOfTheServersOwnZone(t *testing.T) {
	server, updates := nameserver(t)
	file := filepath.Join(t.TempDir(), "dns_token")
	write := func(text string) {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(text), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	write(key)
	one := &Provider{Kind: "rfc2136", TokenFile: file, Server: server, KeyName: "Cell", KeyAlgorithm: "hmac-sha256"}
	if err := one.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	// A split horizon says that the cell's own domain is a zone.
	zone := "home.example.org."
	if _, err := one.AppendRecords(context.Background(), zone, txt("_acme-challenge", "proof")); err != nil {
		t.Fatal(err)
	}
	added := (<-updates).(*dns.TXT)
	if added.Hdr.Name != "_acme-challenge.home.example.org." || added.Txt[0] != "proof" || added.Hdr.Ttl != 120 || added.Hdr.Class != dns.ClassINET {
		t.Fatalf("%v", added)
	}
	if _, err := one.DeleteRecords(context.Background(), zone, txt("_acme-challenge", "proof")); err != nil {
		t.Fatal(err)
	}
	if removed := (<-updates).(*dns.TXT); removed.Hdr.Class != dns.ClassNONE || removed.Txt[0] != "proof" {
		t.Fatalf("%v", removed)
	}
	for text, words := range map[string]string{
		"bm90IHRoZSBrZXk=": "NOTAUTH", "no base64": "no base64",
	} {
		write(text)
		_, err := one.AppendRecords(context.Background(), zone, txt("_acme-challenge", "proof"))
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), text) && text != words {
			t.Fatalf("%s: %v", text, err)
		}
	}
	write(key)
	if _, err := one.AppendRecords(context.Background(), "example.net.", txt("_acme-challenge", "x")); err == nil || !strings.Contains(err.Error(), "no zone") {
		t.Fatalf("%v", err)
	}
	if len(updates) != 0 {
		t.Fatal("something else was written")
	}
}

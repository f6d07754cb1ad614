package acme

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/libdns/libdns"
)

const secret = "a7c4d0ad-114e-40ef-ba1d-d217904a50f2"

// provider is one with the token in a file, whose interface is the server's.
func provider(t *testing.T, kind string, server *httptest.Server) *Provider {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dns_token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	one := &Provider{Kind: kind, TokenFile: file, api: server.URL}
	if err := one.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	return one
}

func txt(name, value string) []libdns.Record {
	return []libdns.Record{libdns.RR{Name: name, Type: "TXT", Data: value}}
}

func served(t *testing.T, handle http.HandlerFunc) *httptest.Server {
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server
}

func TestDuckdnsIsAskedAsItsPageSays(t *testing.T) {
	var asked []url.Values
	say := "OK"
	server := served(t, func(to http.ResponseWriter, request *http.Request) {
		if request.URL.Path != "/update" {
			t.Errorf("%s", request.URL.Path)
		}
		asked = append(asked, request.URL.Query())
		io.WriteString(to, say)
	})
	one := provider(t, "duckdns", server)
	// The zone is what a resolver says, and it may be the cell's own.
	for _, place := range [][2]string{{"myhome.duckdns.org.", "_acme-challenge"}, {"duckdns.org.", "_acme-challenge.cell.myhome"}} {
		asked = nil
		if _, err := one.AppendRecords(context.Background(), place[0], txt(place[1], "proof")); err != nil {
			t.Fatal(err)
		}
		if _, err := one.DeleteRecords(context.Background(), place[0], txt(place[1], "proof")); err != nil {
			t.Fatal(err)
		}
		want := url.Values{"domains": {"myhome"}, "token": {secret}, "txt": {"proof"}}
		if len(asked) != 2 || asked[0].Encode() != want.Encode() {
			t.Fatalf("%v", asked)
		}
		if asked[1].Get("clear") != "true" || asked[1].Get("domains") != "myhome" {
			t.Fatalf("%v", asked[1])
		}
	}
	say = "KO"
	_, err := one.AppendRecords(context.Background(), "myhome.duckdns.org.", txt("_acme-challenge", "proof"))
	if err == nil || !strings.Contains(err.Error(), "KO") || strings.Contains(err.Error(), secret) {
		t.Fatalf("%v", err)
	}
	asked = nil
	if _, err := one.AppendRecords(context.Background(), "home.example.", txt("_acme-challenge", "proof")); err == nil || asked != nil {
		t.Fatalf("another's name: %v %v", err, asked)
	}
}

func TestNoFailureTellsTheToken(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	for _, kind := range []string{"duckdns", "cloudflare"} {
		_, err := provider(t, kind, server).AppendRecords(context.Background(), "myhome.duckdns.org.", txt("_acme-challenge", "proof"))
		if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "cannot be asked") {
			t.Fatalf("%s: %v", kind, err)
		}
	}
}

// fakeCloudflare is the part of its interface that is used, over one zone.
type fakeCloudflare struct {
	t       *testing.T
	records map[string]cloudflareRecord
	next    int
}

func (f *fakeCloudflare) ServeHTTP(to http.ResponseWriter, request *http.Request) {
	answer := func(status int, result any, words string) {
		to.WriteHeader(status)
		body := map[string]any{"success": words == "", "result": result, "errors": []any{}}
		if words != "" {
			body["errors"] = []any{map[string]any{"code": 10000, "message": words}}
		}
		json.NewEncoder(to).Encode(body)
	}
	if request.Header.Get("Authorization") != "Bearer "+secret {
		answer(http.StatusForbidden, nil, "Authentication error")
		return
	}
	query, path := request.URL.Query(), request.URL.Path
	switch {
	case request.Method == http.MethodGet && path == "/zones":
		zones := []any{}
		if query.Get("name") == "example.org" {
			zones = append(zones, map[string]string{"id": "z1", "name": "example.org"})
		}
		answer(http.StatusOK, zones, "")
	case request.Method == http.MethodPost && path == "/zones/z1/dns_records":
		var record cloudflareRecord
		if err := json.NewDecoder(request.Body).Decode(&record); err != nil {
			f.t.Error(err)
		}
		f.next++
		record.ID = "r" + string(rune('0'+f.next))
		f.records[record.ID] = record
		answer(http.StatusOK, record, "")
	case request.Method == http.MethodGet && path == "/zones/z1/dns_records":
		found := []cloudflareRecord{}
		for _, one := range f.records {
			if one.Type == query.Get("type") && one.Name == query.Get("name") {
				found = append(found, one)
			}
		}
		answer(http.StatusOK, found, "")
	case request.Method == http.MethodDelete && strings.HasPrefix(path, "/zones/z1/dns_records/"):
		delete(f.records, strings.TrimPrefix(path, "/zones/z1/dns_records/"))
		answer(http.StatusOK, map[string]string{}, "")
	default:
		answer(http.StatusNotFound, nil, "no such route")
	}
}

func TestCloudflareWritesAndRemovesOneRecord(t *testing.T) {
	fake := &fakeCloudflare{t: t, records: map[string]cloudflareRecord{
		"kept": {ID: "kept", Type: "TXT", Name: "_acme-challenge.home.example.org", Content: `"another"`},
	}}
	server := httptest.NewServer(fake)
	defer server.Close()
	one := provider(t, "cloudflare", server)
	if _, err := one.AppendRecords(context.Background(), "org.", txt("_acme-challenge.home.example", "proof")); err != nil {
		t.Fatal(err)
	}
	made := fake.records["r1"]
	want := cloudflareRecord{ID: "r1", Type: "TXT", Name: "_acme-challenge.home.example.org", Content: `"proof"`, TTL: 120}
	if made != want {
		t.Fatalf("%+v", made)
	}
	if _, err := one.DeleteRecords(context.Background(), "example.org.", txt("_acme-challenge.home", "proof")); err != nil {
		t.Fatal(err)
	}
	if _, kept := fake.records["kept"]; !kept || len(fake.records) != 1 {
		t.Fatalf("%+v", fake.records)
	}
	_, err := one.AppendRecords(context.Background(), "example.net.", txt("_acme-challenge", "proof"))
	if err == nil || !strings.Contains(err.Error(), "sees no zone") {
		t.Fatalf("%v", err)
	}
	if err := os.WriteFile(one.TokenFile+"2", []byte("other"), 0o400); err != nil {
		t.Fatal(err)
	}
	one.TokenFile += "2"
	_, err = one.AppendRecords(context.Background(), "example.org.", txt("_acme-challenge", "proof"))
	if err == nil || !strings.Contains(err.Error(), "Authentication error (10000)") {
		t.Fatalf("a new token is in force at once, and the reason is told: %v", err)
	}
}

func TestNothingButAProofIsWritten(t *testing.T) {
	server := served(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	one := provider(t, "cloudflare", server)
	for _, records := range [][]libdns.Record{
		txt("www", "x"), txt("@", "x"),
		{libdns.RR{Name: "_acme-challenge", Type: "A", Data: "192.0.2.1"}},
	} {
		if _, err := one.AppendRecords(context.Background(), "example.org.", records); err == nil {
			t.Fatalf("%v", records)
		}
	}
}

func TestATokenThatIsNotThereIsTold(t *testing.T) {
	server := served(t, func(http.ResponseWriter, *http.Request) { t.Error("asked") })
	one := provider(t, "duckdns", server)
	one.TokenFile = filepath.Join(t.TempDir(), "none")
	_, err := one.AppendRecords(context.Background(), "myhome.duckdns.org.", txt("_acme-challenge", "proof"))
	if err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Fatalf("%v", err)
	}
	for _, bad := range []*Provider{
		{Kind: "route53", TokenFile: "/x"},
		{Kind: "duckdns"},
		{Kind: "rfc2136", TokenFile: "/x", Server: "ns.example.org", KeyName: "k", KeyAlgorithm: "hmac-sha256"},
		{Kind: "rfc2136", TokenFile: "/x", Server: "192.0.2.1:53", KeyName: "", KeyAlgorithm: "hmac-sha256"},
		{Kind: "rfc2136", TokenFile: "/x", Server: "192.0.2.1:53", KeyName: "k", KeyAlgorithm: "hmac-md5"},
	} {
		if err := bad.Provision(caddy.Context{}); err == nil {
			t.Fatalf("%+v", bad)
		}
	}
}

func TestWhatBecameOfACertificateIsTold(t *testing.T) {
	hear := func(kind string, data map[string]any) {
		event, err := caddy.NewEvent(caddy.Context{}, kind, data)
		if err != nil {
			t.Fatal(err)
		}
		if err := (&Events{}).Handle(context.Background(), event); err != nil {
			t.Fatal(err)
		}
	}
	name := "*.home.example"
	hear("cert_failed", map[string]any{"identifier": name, "error": strings.Repeat("x", 9000)})
	recorder := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, "/cell/certificate?name="+url.QueryEscape(name), nil)
	if err := certificate(recorder, request); err != nil {
		t.Fatal(err)
	}
	var told Outcome
	if err := json.Unmarshal(recorder.Body.Bytes(), &told); err != nil {
		t.Fatal(err)
	}
	if told.NotAfter != nil || told.Fault == nil || len(*told.Fault) != faultMax {
		t.Fatalf("%+v", told)
	}
	hear("cert_obtained", map[string]any{"identifier": name})
	faults.Lock()
	defer faults.Unlock()
	if len(faults.of) != 0 {
		t.Fatalf("%v", faults.of)
	}
}

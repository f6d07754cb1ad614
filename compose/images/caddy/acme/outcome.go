package acme

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"github.com/caddyserver/certmagic"
)

const (
	// faultMax is the most of a reason that is kept, bytes.
	faultMax = 2000
	// namesMax is how many names are remembered: a household has one.
	namesMax = 64
)

// faults has why a name's certificate could not be had when that was tried last.
var faults = struct {
	sync.Mutex
	of map[string]string
}{of: map[string]string{}}

// Events hears what becomes of certificates (cert_obtained and cert_failed).
type Events struct{}

// CaddyModule tells Caddy of it.
func (Events) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.cell", New: func() caddy.Module { return new(Events) }}
}

// Handle notes it.
func (*Events) Handle(_ context.Context, event caddy.Event) error {
	name, _ := event.Data["identifier"].(string)
	if name == "" {
		return nil
	}
	faults.Lock()
	defer faults.Unlock()
	switch event.Name() {
	case "cert_obtained":
		delete(faults.of, name)
	case "cert_failed":
		reason := fmt.Sprint(event.Data["error"])
		if len(reason) > faultMax {
			reason = reason[:faultMax]
		}
		if _, known := faults.of[name]; known || len(faults.of) < namesMax {
			faults.of[name] = reason
		}
	}
	return nil
}

// Outcome is how a name stands.
type Outcome struct {
	// NotAfter is when the certificate that is served ends, seconds since 1970; null: there is none.
	NotAfter *int64 `json:"not_after"`
	// Fault is why another could not be had; null: nothing is known to be wrong.
	Fault *string `json:"fault"`
}

// Admin answers GET /cell/certificate?name=NAME at the admin socket.
type Admin struct{}

// CaddyModule tells Caddy of it.
func (Admin) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "admin.api.cell", New: func() caddy.Module { return new(Admin) }}
}

// Routes are those of the admin socket.
func (Admin) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: "/cell/certificate", Handler: caddy.AdminHandlerFunc(certificate)}}
}

func certificate(to http.ResponseWriter, request *http.Request) error {
	if request.Method != http.MethodGet {
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: fmt.Errorf("only GET")}
	}
	name := request.URL.Query().Get("name")
	if name == "" {
		return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("name is missing")}
	}
	to.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(to).Encode(outcome(name, time.Now()))
}

func outcome(name string, now time.Time) Outcome {
	var found Outcome
	for _, one := range held(name) {
		if one.Leaf == nil || now.After(one.Leaf.NotAfter) {
			continue
		}
		if ends := one.Leaf.NotAfter.Unix(); found.NotAfter == nil || ends > *found.NotAfter {
			found.NotAfter = &ends
		}
	}
	faults.Lock()
	defer faults.Unlock()
	if reason, failed := faults.of[name]; failed {
		found.Fault = &reason
	}
	return found
}

// hasTLS says that Caddy keeps certificates: before its first configuration with any it panics when it is asked for one.
var hasTLS atomic.Bool

func held(name string) []certmagic.Certificate {
	if !hasTLS.Load() {
		return nil
	}
	return caddytls.AllMatchingCertificates(name)
}

func init() {
	caddy.RegisterModule(Events{})
	caddy.RegisterModule(Admin{})
}

var (
	_ caddyevents.Handler = (*Events)(nil)
	_ caddy.AdminRouter   = (*Admin)(nil)
)

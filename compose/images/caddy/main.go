// Caddy with its standard modules, and what gets certificates of public names by DNS-01 (folder acme). Its admin socket is for
// its own user and group alone.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "cell/caddy/acme"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "check" {
		if err := check(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	syscall.Umask(0o007)
	caddycmd.Main()
}

// check asks the admin socket for the configuration, as the container's health check.
func check() error {
	path := strings.TrimPrefix(strings.Split(os.Getenv("CADDY_ADMIN"), "|")[0], "unix/")
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", path)
	}
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DialContext: dial}}
	answer, err := client.Get("http://127.0.0.1/config/")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the admin socket answers %s", answer.Status)
	}
	return nil
}

// CoreDNS with the plugins that a cell uses, and no other: what is not linked cannot be configured.
package main

import (
	"fmt"
	"net"
	"os"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metadata"
	_ "github.com/coredns/coredns/plugin/proxyproto"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/view"
)

// The order in which plugins see a question, as CoreDNS' own plugin.cfg has it.
func init() {
	dnsserver.Directives = []string{
		"metadata", "proxyproto", "reload", "bind", "ready", "health", "errors", "log",
		"cache", "template", "file", "forward", "view",
	}
}

func main() {
	// The container's health check: whether anybody listens. What is answered is asked by those who are served.
	if len(os.Args) == 2 && os.Args[1] == "check" {
		connection, err := net.DialTimeout("tcp", "127.0.0.1:53", 3*time.Second)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		connection.Close()
		return
	}
	coremain.Run()
}

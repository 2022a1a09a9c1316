// Command tsnet-stream is the rival of examples/stream: the same three routes and the same flags on Tailscale's tsnet, so
// that both can be measured in one run. It prints "ready_after_ms=N" on stderr once it is on the tailnet and listening.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"tailscale.com/tsnet"
)

func main() {
	started := time.Now()
	stateDir := flag.String("state-dir", "", "folder for keys and state")
	controlURL := flag.String("control-url", "", "control server")
	authKeyFile := flag.String("auth-key-file", "", "file with a pre-auth key")
	hostname := flag.String("hostname", "stream", "wanted node name")
	port := flag.Int("port", 80, "TCP port on the tailnet")
	udpPort := flag.Uint("udp-port", 0, "WireGuard's UDP port, 0 for any")
	flag.Parse()

	key, err := os.ReadFile(*authKeyFile)
	if err != nil {
		log.Fatalf("auth key: %v", err)
	}
	server := &tsnet.Server{
		Dir:        *stateDir,
		ControlURL: *controlURL,
		AuthKey:    strings.TrimSpace(string(key)),
		Hostname:   *hostname,
		Port:       uint16(*udpPort),
	}
	defer server.Close()
	if _, err := server.Up(context.Background()); err != nil {
		log.Fatalf("up: %v", err)
	}
	listener, err := server.Listen("tcp", fmt.Sprintf(":%d", *port))
	if err != nil {
		log.Fatalf("listen: %v", err)
	}
	fmt.Fprintf(os.Stderr, "ready_after_ms=%d\n", time.Since(started).Milliseconds())
	log.Fatal(http.Serve(listener, routes()))
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stream", stream)
	mux.HandleFunc("PUT /upload", upload)
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello\n")
	})
	return mux
}

// stream answers with n zero bytes.
func stream(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "n must be a number of bytes", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	chunk := make([]byte, 64<<10)
	for n > 0 {
		wrote, err := w.Write(chunk[:min(n, int64(len(chunk)))])
		if err != nil {
			return
		}
		n -= int64(wrote)
	}
}

// upload swallows the body and answers with its length.
func upload(w http.ResponseWriter, r *http.Request) {
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 64<<10))
	if err != nil {
		return
	}
	fmt.Fprintf(w, "%d\n", n)
}

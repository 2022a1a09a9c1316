// Command filter answers what Tailscale's own packet filter says.
//
// Each line of standard input is one policy with packets and questions; the line written for it carries the verdicts.
// The caller is tests/oracle/tests/filter.rs, which compares them with those of the tailnet-engine crate.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"

	"go4.org/netipx"
	"tailscale.com/net/packet"
	"tailscale.com/tailcfg"
	"tailscale.com/types/ipproto"
	"tailscale.com/types/logger"
	"tailscale.com/wgengine/filter"
)

type policy struct {
	Local    []netip.Addr
	Rules    []tailcfg.FilterRule
	NodeCaps map[netip.Addr][]tailcfg.NodeCapability
	Packets  []wirePacket
	Flows    []flow
	Caps     [][2]netip.Addr // source, destination
}

type wirePacket struct {
	Out   bool
	Bytes []byte
}

type flow struct {
	Proto uint8
	Src   netip.Addr
	Dst   netip.AddrPort
}

type answer struct {
	Error   string `json:",omitempty"` // what the rule parser complained about
	Packets []verdict
	Flows   []bool
	Caps    []map[string][]string // name to JSON texts
}

type verdict struct {
	Accept bool
	Proto  uint8 // 0 when the bytes are no packet, 255 for a later fragment
	Src    netip.AddrPort
	Dst    netip.AddrPort
	Flags  uint8
	Echo   string // "request", "reply" or "error" for ICMP
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for decoder.More() {
		var p policy
		if err := decoder.Decode(&p); err != nil {
			fmt.Fprintln(os.Stderr, "oracle: the line is no policy:", err)
			os.Exit(1)
		}
		if err := encoder.Encode(judge(&p)); err != nil {
			fmt.Fprintln(os.Stderr, "oracle: cannot answer:", err)
			os.Exit(1)
		}
		// Answer at once when nothing more is waiting, so that the caller may ask one policy at a time.
		if in.Buffered() == 0 {
			out.Flush()
		}
	}
	out.Flush()
}

func judge(p *policy) (a answer) {
	matches, err := filter.MatchesFromFilterRules(p.Rules)
	if err != nil {
		a.Error = err.Error()
	}
	var local netipx.IPSetBuilder
	for _, ip := range p.Local {
		local.Add(ip)
	}
	localSet, err := local.IPSet()
	if err != nil {
		a.Error = err.Error()
	}
	hasCap := func(src netip.Addr, want tailcfg.NodeCapability) bool {
		for _, have := range p.NodeCaps[src] {
			if have == want {
				return true
			}
		}
		return false
	}
	f := filter.New(matches, hasCap, localSet, nil, nil, logger.Discard)

	for _, w := range p.Packets {
		a.Packets = append(a.Packets, run(f, w))
	}
	for _, fl := range p.Flows {
		response := f.Check(fl.Src, fl.Dst.Addr(), fl.Dst.Port(), ipproto.Proto(fl.Proto))
		a.Flows = append(a.Flows, response == filter.Accept)
	}
	for _, pair := range p.Caps {
		caps := map[string][]string{}
		for name, values := range f.CapsWithValues(pair[0], pair[1]) {
			texts := []string{}
			for _, value := range values {
				texts = append(texts, string(value))
			}
			caps[string(name)] = texts
		}
		a.Caps = append(a.Caps, caps)
	}
	return a
}

func run(f *filter.Filter, w wirePacket) (v verdict) {
	var q packet.Parsed
	q.Decode(w.Bytes)
	v.Proto, v.Src, v.Dst, v.Flags = uint8(q.IPProto), q.Src, q.Dst, uint8(q.TCPFlags)
	switch {
	case q.IsEchoRequest():
		v.Echo = "request"
	case q.IsEchoResponse():
		v.Echo = "reply"
	case q.IsError():
		v.Echo = "error"
	}
	if w.Out {
		response, _ := f.RunOut(&q, 0)
		v.Accept = response == filter.Accept
	} else {
		v.Accept = f.RunIn(&q, 0) == filter.Accept
	}
	return v
}

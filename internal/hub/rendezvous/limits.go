package rendezvous

// full returns the limit that stands against one stream more, nil for none.
func (r *Rendezvous) full(s Stream) error {
	switch {
	case len(r.streams)+len(r.extended) >= r.o.MaxStreams:
		return ErrHubFull
	case r.devices[s.Device] >= r.o.MaxPerDevice:
		return ErrDeviceFull
	case r.policies[s.Policy] >= r.o.MaxPerPolicy:
		return ErrPolicyFull
	}
	return nil
}

// count counts a stream. The policy is "" for one that only its device's side is known
// of, and counted with countPolicy later.
func (r *Rendezvous) count(s Stream) {
	r.devices[s.Device]++
	if s.Policy != "" {
		r.policies[s.Policy]++
	}
}

// countPolicy is the part of count that was left out. It reports whether there is room.
func (r *Rendezvous) countPolicy(policy string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.policies[policy] >= r.o.MaxPerPolicy {
		return false
	}
	if policy != "" {
		r.policies[policy]++
	}
	return true
}

func (r *Rendezvous) uncount(s Stream) {
	uncount(r.devices, s.Device)
	if s.Policy != "" {
		uncount(r.policies, s.Policy)
	}
}

func uncount(counts map[string]int, key string) {
	if counts[key]--; counts[key] == 0 {
		delete(counts, key)
	}
}

package hubclient

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/farportio/farport/internal/wire"
)

func TestCAs(t *testing.T) {
	const version = "?api-version=" + wire.APIVersionService
	lower := strings.Repeat("0a", 32)
	var asked string
	var proposed CAProposal
	stored := CA{Fingerprint: lower, Subject: "CN=plant", NotAfter: wire.Time{Time: time.Unix(1900000000, 0).UTC()}}
	hub := (&testHub{api: func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.RequestURI
		switch r.Method {
		case http.MethodGet:
			_ = json.NewEncoder(w).Encode([]CA{stored})
		case http.MethodPost:
			proposed = CAProposal{}
			if err := json.NewDecoder(r.Body).Decode(&proposed); err != nil {
				t.Error(err)
			}
			answer := stored
			if proposed.Proof == "" {
				answer.VerificationCode = "123"
			}
			_ = json.NewEncoder(w).Encode(answer)
		case http.MethodDelete:
			if r.URL.Path != wire.CAPath(lower) {
				wire.WriteError(w, wire.ErrNotFound, "no such CA", "1f6e", 0)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		}
	}}).start(t)
	s := hub.service(Options{Proxy: noProxy})

	all, err := s.ListCAs(t.Context())
	if err != nil || !reflect.DeepEqual(all, []CA{stored}) || asked != "GET /certificates"+version {
		t.Errorf("%s: %+v, %v", asked, all, err)
	}
	for _, tt := range []struct{ proof, code string }{{"", "123"}, {"proof", ""}} {
		p := CAProposal{Certificate: "PEM", Proof: tt.proof}
		ca, err := s.RegisterCA(t.Context(), p)
		if err != nil || ca.VerificationCode != tt.code || ca.Fingerprint != lower || proposed != p || asked != "POST /certificates"+version {
			t.Errorf("%s %+v: %+v, %v", asked, proposed, ca, err)
		}
	}
	if err := s.RemoveCA(t.Context(), strings.ToUpper(lower)); err != nil || asked != "DELETE /certificates/"+lower+version {
		t.Errorf("%s: %v", asked, err)
	}
	err = s.RemoveCA(t.Context(), strings.Repeat("ff", 32))
	if !errors.Is(err, ErrCANotFound) || errors.Is(err, ErrDeviceNotFound) {
		t.Fatalf("error is %v", err)
	}
	contains(t, err.Error(), `remove CA "ffff`, " on 127.0.0.1:", "CA is not registered")
	for _, bad := range []string{"", "..", lower[1:], lower + "/x", strings.Repeat("x", 64)} {
		asked = ""
		if err := s.RemoveCA(t.Context(), bad); !errors.Is(err, ErrBadName) || asked != "" {
			t.Errorf("%q: asked %q, %v", bad, asked, err)
		}
	}
}

// A hub that knows no CAs is not one that does not know this CA.
func TestCAsElsewhere(t *testing.T) {
	hub := (&testHub{api: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "nothing here", http.StatusNotFound) }}).start(t)
	s := hub.service(Options{Proxy: noProxy})
	_, list := s.ListCAs(t.Context())
	_, register := s.RegisterCA(t.Context(), CAProposal{})
	remove := s.RemoveCA(t.Context(), strings.Repeat("ff", 32))
	for _, err := range []error{list, register, remove} {
		if refused, ok := errors.AsType[*HubError](err); !ok || refused.Status != http.StatusNotFound || errors.Is(err, ErrCANotFound) {
			t.Errorf("error is %v", err)
		}
	}
}

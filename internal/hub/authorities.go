package hub

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/farportio/farport/internal/hub/registry"
	"github.com/farportio/farport/internal/wire"
)

// CAs that vouch for devices (security.md T26). Whoever registers one shows to hold its
// key: they have it sign a certificate whose subject CN is a code that the hub made for
// that CA. Or else the owner of a hub could be talked into a CA whose key is somebody
// else's.

// proofSecret is the name in the registry of the key that makes codes, proofLife how
// long a code is good for.
const (
	proofSecret  = "ca-verification"
	proofKeySize = 32
	proofLife    = 24 * time.Hour
)

// proofKey makes and checks verification codes. A code is its expiry, in hex Unix
// seconds, "-" and 128 bits of a MAC over expiry and CA: nothing of it has to be kept.
type proofKey []byte

func (k proofKey) code(fingerprint string, at time.Time) string {
	expires := strconv.FormatInt(at.Add(proofLife).Unix(), 16)
	mac := hmac.New(sha256.New, k)
	mac.Write([]byte("farport CA verification 1\x00" + fingerprint + "\x00" + expires))
	return expires + "-" + hex.EncodeToString(mac.Sum(nil)[:16])
}

// valid reports whether code was made for that CA and has not expired.
func (k proofKey) valid(code, fingerprint string, now time.Time) bool {
	text, _, _ := strings.Cut(code, "-")
	expires, err := strconv.ParseInt(text, 16, 64)
	return err == nil && now.Unix() < expires &&
		hmac.Equal([]byte(code), []byte(k.code(fingerprint, time.Unix(expires, 0).Add(-proofLife))))
}

func (h *Hub) listCAs(w http.ResponseWriter, r *request) {
	cas, err := h.registry.CAs(r.Context())
	if err != nil {
		h.failed(w, r, err)
		return
	}
	list := make([]wire.CA, len(cas)) // never null
	for i, ca := range cas {
		list[i] = ca.CA
	}
	writeJSON(w, list)
}

// registerCA registers a CA, or without proof answers with the code to be proved with.
func (h *Hub) registerCA(w http.ResponseWriter, r *request) {
	var p wire.CAProposal
	if !h.readJSON(w, r, maxBody, &p) {
		return
	}
	cert, err := oneCertificate(p.Certificate)
	if err != nil {
		h.refuse(w, r, wire.ErrArgumentInvalid, "certificate: "+err.Error())
		return
	}
	now := time.Now()
	ca, err := registry.NewCA(cert, now)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	if p.Proof == "" {
		ca.Created, ca.VerificationCode = wire.Time{}, h.proof.code(ca.Fingerprint, now)
		writeJSON(w, ca)
		return
	}
	if err := h.checkProof(p.Proof, cert, ca.Fingerprint, now); err != nil {
		h.refuse(w, r, wire.ErrArgumentInvalid, "proof: "+err.Error())
		return
	}
	if ca, err = h.registry.AddCA(r.Context(), cert, now); err != nil {
		h.failed(w, r, err)
		return
	}
	h.auditCA("CA registered", r, ca.Fingerprint)
	writeJSON(w, ca)
}

// checkProof checks that the CA signed a certificate for its present code.
func (h *Hub) checkProof(text string, ca *x509.Certificate, fingerprint string, now time.Time) error {
	proof, err := oneCertificate(text)
	if err != nil {
		return err
	}
	if err := proof.CheckSignatureFrom(ca); err != nil {
		return fmt.Errorf("it is not signed by that CA: %w", err)
	}
	if !h.proof.valid(proof.Subject.CommonName, fingerprint, now) {
		return errors.New("its subject CN is not a verification code for that CA, or one that has expired")
	}
	return nil
}

// removeCA forgets a CA, and ends what devices opened on its word.
func (h *Hub) removeCA(w http.ResponseWriter, r *request) {
	err := h.registry.RemoveCA(r.Context(), r.name)
	if gone(err) {
		h.refuse(w, r, wire.ErrNotFound, "no CA "+quote(r.name)+" is registered")
		return
	}
	if err != nil {
		h.failed(w, r, err)
		return
	}
	h.auditCA("CA removed", r, r.name)
	h.bus.Tell("") // of any device
	w.WriteHeader(http.StatusNoContent)
}

func (h *Hub) auditCA(what string, r *request, fingerprint string) {
	h.log.Info(what, "ca", fingerprint, "policy", r.principal.policy, "remote", r.RemoteAddr, "tracking", r.tracking)
}

// oneCertificate reads the one certificate in a PEM text.
func oneCertificate(text string) (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it is not a certificate in PEM")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("it holds more than one certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("it cannot be read: %s", short(err.Error()))
	}
	return cert, nil
}

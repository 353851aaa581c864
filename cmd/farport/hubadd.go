package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/farportio/farport/hubclient"
	"github.com/farportio/farport/internal/credential"
	"github.com/farportio/farport/internal/profile"
)

type hubAddOptions struct {
	credentialOptions
	keyring bool
	force   bool
}

func (o *hubAddOptions) addFlags(flags *pflag.FlagSet) {
	o.addGivenFlags(flags, serviceVariables...)
	exclusive(flags, flagConnectionString, flagConnectionStringFile)
	flags.BoolVar(&o.keyring, "keyring", false, "keep the key in the system's keyring, not in the file")
	flags.BoolVar(&o.force, "force", false, "replace the stored hub of that name")
}

func newHubAdd(a *app) *cobra.Command {
	var o hubAddOptions
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Store a hub's connection string by a name",
		Long: `Stores a connection string by a name of your own: lower-case letters, digits and -._
The first one that is stored becomes the current one.

The connection string comes from a flag or a variable, or else from standard input; on
a terminal it is asked for and not shown. The certificates of --ca-file are stored with
it. The hub is not asked anything.

With --keyring the key goes to the system's keyring (Keychain, Credential Manager, or
what answers as Secret Service on Linux) and all the rest to the file. Where no keyring
answers, nothing is stored.`,
		Example: `  farport hub add work --connection-string-file service.conn
  ssh hub.example.com sudo cat /var/lib/farport/connection-strings/service | farport hub add work
  farport hub add work --keyring`,
		Args:        arguments("NAME"),
		Annotations: exitStatus(exitUsage),
		RunE:        func(cmd *cobra.Command, args []string) error { return runHubAdd(cmd.Context(), a, o, args[0]) },
	}
	o.addFlags(cmd.Flags())
	return cmd
}

func runHubAdd(ctx context.Context, a *app, o hubAddOptions, name string) error {
	store, err := a.hubs()
	if err != nil {
		return err
	}
	before, err := store.Load(name)
	switch {
	case errors.Is(err, profile.ErrBadName):
		return err
	case errors.Is(err, profile.ErrNotFound):
	case !o.force: // whatever is there, and before anybody is asked for a secret
		return fmt.Errorf("hub %s: %w", quote(name), profile.ErrExists)
	}
	p := profile.Profile{Name: name}
	if o.caFile != "" {
		if p.CA, err = a.caCertificates(&o.credentialOptions); err != nil {
			return err
		}
	}
	cs, err := a.stringToStore(ctx, &o.credentialOptions, name)
	if err != nil {
		return err
	}
	if err := a.storeHub(store, p, cs, o); err != nil {
		return err
	}
	if err := removeKeyring(before); err != nil {
		a.term.warn("the replaced hub: %v", err)
	}
	if cs.IsDevice() {
		a.term.warn(`this is the connection string of %s: "farport sas-token" can use it, other commands want one with SharedAccessKeyName`, named(hubclient.Target(cs)))
	}
	return a.useFirst(store, name)
}

// storeHub puts the key where it belongs, and then writes the file.
func (a *app) storeHub(store profile.Store, p profile.Profile, cs hubclient.ConnectionString, o hubAddOptions) error {
	p.ConnectionString = cs.Reveal()
	if o.keyring {
		var secret credential.Secret
		if p.ConnectionString, secret = cs.Split(); secret == "" {
			return usage("--keyring: the connection string has no key to keep there")
		}
		p.Keyring = newKeyringEntry(p.Name)
		if err := writeKeyring(p, secret); err != nil {
			return err
		}
	}
	if err := store.Save(p, o.force); err != nil {
		return errors.Join(err, removeKeyring(p))
	}
	h, err := showHub(store, p.Name)
	if err != nil {
		return err
	}
	from := ""
	if variable := setBy(o.flags, flagConnectionString); variable != "" {
		from = ", from " + variable
	}
	a.term.notice("hub %s: %s as %s%s; key in the %s", quote(h.Name), h.HostName, h.signsInAs(), from, map[string]string{
		keptInFile:    "file " + h.File,
		keptInKeyring: "system's keyring",
	}[h.KeptIn])
	return nil
}

// useFirst makes a hub the current one if none is.
func (a *app) useFirst(store profile.Store, name string) error {
	current, err := store.Current()
	switch {
	case err != nil:
		return err
	case current == "":
		return runHubUse(a, name)
	case current != name:
		a.term.hint(`"farport hub use %s" makes it the current one, which now is %s`, name, quote(current))
	}
	return nil
}

// stringToStore is the connection string of flags and variables, or else of standard
// input.
func (a *app) stringToStore(ctx context.Context, o *credentialOptions, name string) (hubclient.ConnectionString, error) {
	cs, found, err := a.given(o)
	if err != nil || found {
		return cs, err
	}
	text, err := a.ask(ctx, "connection string of hub "+quote(name)+" (not shown): ")
	if err != nil {
		return cs, err
	}
	if text == "" {
		e := usage("no connection string on standard input")
		e.hint = "pipe it in, or name a file with --" + flagConnectionStringFile
		return cs, e
	}
	return parse("standard input", text)
}

// ask reads a secret from standard input. A person sees the question, but not what
// they type.
func (a *app) ask(ctx context.Context, question string) (string, error) {
	f, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return a.readSecretFile(standardInput)
	}
	tty := int(f.Fd())
	state, err := term.GetState(tty)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(a.term, "farport: %s", question)
	type answer struct {
		text []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the line, or the process
		text, err := term.ReadPassword(tty)
		answers <- answer{text, err}
	}()
	select {
	case got := <-answers:
		fmt.Fprintln(a.term)
		return string(got.text), got.err
	case <-ctx.Done():
		fmt.Fprintln(a.term)
		return "", errors.Join(errors.New("interrupted: nothing is stored"), term.Restore(tty, state))
	}
}

package hubtest

// DropControl breaks off a device's control connection, as a failing network does.
func (s *Server) DropControl(id string) {
	s.t.Helper()
	if !s.Hub.DropControl(id) {
		s.t.Fatalf("device %q has no control connection", id)
	}
}

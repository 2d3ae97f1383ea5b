"""Instructions a message costs on the hot paths, counted by callgrind: they do not depend on the machine's mood."""

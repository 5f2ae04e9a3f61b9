"""The gateway and its recipients: certificate, delivery, status, and the requests it carries out."""

"""Batches as files in a folder, local or over SFTP: the transport, folders and settings."""

"""Documents for data protection: the catalogue of personal data, the register of processing, the
facts for an impact assessment, and breaches.
"""

"""OpenAPI: a document as a proxy module, and a proxy as a document.

Read in this order: reading, document, schemas, arguments, bodies, security, servers, operations, importer; then layout,
declaration, module for what is written, files for where; and exporter for the way back.
"""

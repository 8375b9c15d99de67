"""OpenTelemetry: traces and metrics by OTLP, as its standard environment variables ask. Imported only then."""

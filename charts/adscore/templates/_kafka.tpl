{{/* A list setting as comma-separated text, however it was written. */}}
{{- define "adscore.joined" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{/* Not empty when KEDA needs a TriggerAuthentication of its own to ask the brokers. */}}
{{- define "adscore.kedaAuthentication" -}}
{{- $secrets := .Values.existingSecrets.kafka | default dict -}}
{{- if and .Values.keda.enabled (or (hasPrefix "SASL" .Values.config.kafka.security_protocol) (hasKey $secrets "ssl_cafile")) -}}
yes
{{- end -}}
{{- end }}

{{/* The given peers, or everywhere except the metadata services of the clouds: no rule of ours reaches those. */}}
{{- define "adscore.destinations" -}}
{{- if . -}}
{{- toYaml . -}}
{{- else -}}
- ipBlock:
    cidr: 0.0.0.0/0
    except: [169.254.0.0/16, 169.254.169.254/32, 100.100.100.200/32]
- ipBlock:
    cidr: ::/0
    except: [fe80::/10, fd00:ec2::254/128]
{{- end -}}
{{- end }}

{{- define "adscore.ports" -}}
{{- range $index, $port := uniq . -}}
{{- if $index }}
{{ end -}}
- {port: {{ include "adscore.whole" $port }}, protocol: TCP}
{{- end -}}
{{- end }}

{{/* Ports given, or those of the bootstrap servers. */}}
{{- define "adscore.kafkaPorts" -}}
{{- $ports := .Values.networkPolicy.kafka.ports -}}
{{- if not $ports -}}
{{- range splitList "," (include "adscore.joined" .Values.config.kafka.bootstrap_servers) -}}
{{- $ports = append $ports (regexFind "[0-9]+$" . | default "9092" | int) -}}
{{- end -}}
{{- end -}}
{{- include "adscore.ports" $ports -}}
{{- end }}

{{/* Ports given, or that of the URL; nothing without Redis. */}}
{{- define "adscore.redisPorts" -}}
{{- $ports := .Values.networkPolicy.redis.ports -}}
{{- $url := .Values.config.redis.url | default "" -}}
{{- if and (not $ports) (or (hasPrefix "redis" $url) (dig "redis" "url" "name" "" .Values.existingSecrets)) -}}
{{- $ports = list (regexFind ":[0-9]+(/|\\?|$)" $url | trimAll ":/?" | default "6379" | int) -}}
{{- end -}}
{{- include "adscore.ports" $ports -}}
{{- end }}

{{/* The port of an http(s) URL. */}}
{{- define "adscore.urlPort" -}}
{{- regexFind "^https?://[^/]+" . | regexFind ":[0-9]+$" | trimPrefix ":" | default (ternary "80" "443" (hasPrefix "http://" .)) -}}
{{- end }}

{{/*
Ports given, or those that the fetch allow-list's entries, their stores' endpoints and the bundles' store mean; nothing
where nothing is fetched. 443 stays open beside a store's own port: credentials come from there.
*/}}
{{- define "adscore.fetchPorts" -}}
{{- $ports := .Values.networkPolicy.fetch.ports -}}
{{- if not $ports -}}
{{- range splitList "," (include "adscore.joined" .Values.config.fetch.allowed_hosts) -}}
{{- $entry := trim . -}}
{{- if $entry -}}
{{- $named := regexFind "^[^:]+:[0-9]+$|\\]:[0-9]+$" (trimPrefix "http://" $entry) | regexFind "[0-9]+$" -}}
{{- $ports = append $ports ($named | default (ternary "80" "443" (hasPrefix "http://" $entry)) | int) -}}
{{- $endpoint := "" -}}
{{- if hasPrefix "s3://" $entry }}{{ $endpoint = $.Values.config.fetch.s3_endpoint }}{{ end -}}
{{- if hasPrefix "gs://" $entry }}{{ $endpoint = $.Values.config.fetch.gs_endpoint }}{{ end -}}
{{- with $endpoint }}{{ $ports = append $ports (include "adscore.urlPort" . | int) }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.bundles.source "objectStore" -}}
{{- $ports = append $ports 443 -}}
{{- end -}}
{{- end -}}
{{- include "adscore.ports" $ports -}}
{{- end }}

{{/* Ports given, or that of the collector; nothing without tracing. */}}
{{- define "adscore.tracingPorts" -}}
{{- $ports := list -}}
{{- with .Values.config.tracing.endpoint -}}
{{- $ports = $.Values.networkPolicy.tracing.ports | default (list (include "adscore.urlPort" . | int)) -}}
{{- end -}}
{{- include "adscore.ports" $ports -}}
{{- end }}

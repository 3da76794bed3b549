{{/*
The settings as one TOML file. Numbers keep their digits (Helm's own toToml writes 8388608 as 8.388608e+06); JSON's
strings and arrays are TOML's too.
*/}}
{{- define "adscore.toml" -}}
{{- $tree := include "adscore.settings" . | fromYaml -}}
{{- range $name := keys $tree | sortAlpha -}}
{{- $value := index $tree $name -}}
{{- if not (kindIs "map" $value) }}
{{ $name }} = {{ include "adscore.tomlValue" $value }}
{{- end -}}
{{- end -}}
{{- range $group := keys $tree | sortAlpha -}}
{{- $settings := index $tree $group -}}
{{- if kindIs "map" $settings }}

[{{ $group }}]
{{- range $name := keys $settings | sortAlpha }}
{{ $name }} = {{ include "adscore.tomlValue" (index $settings $name) }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "adscore.tomlValue" -}}
{{- if and (has (kindOf .) (list "float64" "int" "int64")) (eq (float64 .) (float64 (int64 .))) -}}
{{- printf "%d" (int64 .) -}}
{{- else -}}
{{- toJson . -}}
{{- end -}}
{{- end }}

{{/* `config` as it is served: without nulls, with the paths of secrets' files, the port and the bundles' folder. */}}
{{- define "adscore.settings" -}}
{{- $tree := dict -}}
{{- range $group, $settings := .Values.config -}}
{{- if kindIs "map" $settings -}}
{{- $kept := dict -}}
{{- range $name, $value := $settings -}}
{{- if not (kindIs "invalid" $value) -}}{{- $_ := set $kept $name $value -}}{{- end -}}
{{- end -}}
{{- $_ := set $tree $group $kept -}}
{{- else if not (kindIs "invalid" $settings) -}}
{{- $_ := set $tree $group $settings -}}
{{- end -}}
{{- end -}}
{{- range $group, $settings := omit .Values.existingSecrets "files" -}}
{{- range $name, $source := $settings -}}
{{- $path := printf "/run/secrets/adscore/%s.%s" $group $name -}}
{{- $inner := get $tree $group | default dict -}}
{{- if eq $name "ssl_cafile" -}}
{{- $_ := set $inner $name $path -}}
{{- else -}}
{{- $_ := set (unset $inner $name) (printf "%s_file" $name) $path -}}
{{- end -}}
{{- $_ := set $tree $group $inner -}}
{{- end -}}
{{- end -}}
{{- $_ := set $tree "http" (merge (dict "port" .Values.http.port) (get $tree "http" | default dict)) -}}
{{- $models := get $tree "models" | default dict -}}
{{- $folder := include "adscore.modelsFolder" . -}}
{{- if $folder -}}
{{- $_ := set $models "dir" $folder -}}
{{- else if not (get $models "dir") -}}
{{- $_ := unset $models "dir" -}}
{{- end -}}
{{- $_ := set $tree "models" $models -}}
{{- toYaml $tree -}}
{{- end }}

{{/* Where the worker reads bundles; empty: what `config.models.dir` or the image says. */}}
{{- define "adscore.modelsFolder" -}}
{{- if .Values.engineCache.enabled -}}
/var/cache/adscore/models
{{- else if ne .Values.bundles.source "image" -}}
/bundles
{{- end -}}
{{- end }}

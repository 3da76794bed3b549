{{/* What a schema can't say, or can't say readably. Every message names the value and the mend. */}}
{{- define "adscore.validate" -}}
{{- $config := .Values.config -}}
{{- if $config.kafka.sasl_password -}}
{{- fail "config.kafka.sasl_password: secrets don't belong in values. Put it in a Secret and name that: existingSecrets.kafka.sasl_password: {name: SECRET, key: KEY}" -}}
{{- end -}}
{{- if regexMatch "@|[?&](username|password)=" ($config.redis.url | default "") -}}
{{- fail "config.redis.url: it holds a credential, and secrets don't belong in values. Put the whole URL in a Secret and name that: existingSecrets.redis.url: {name: SECRET, key: KEY}" -}}
{{- end -}}
{{- if $config.tracing.headers -}}
{{- fail "config.tracing.headers: secrets don't belong in values. Put them in a Secret and name that: existingSecrets.tracing.headers: {name: SECRET, key: KEY}" -}}
{{- end -}}
{{- if hasPrefix "SASL" $config.kafka.security_protocol -}}
{{- if not (dig "kafka" "sasl_password" "name" "" .Values.existingSecrets) -}}
{{- if not $config.kafka.sasl_password_file -}}
{{- fail (printf "config.kafka.security_protocol %s needs a password: existingSecrets.kafka.sasl_password: {name: SECRET, key: KEY}" $config.kafka.security_protocol) -}}
{{- end -}}
{{- end -}}
{{- if not $config.kafka.sasl_mechanism -}}
{{- fail (printf "config.kafka.security_protocol %s needs config.kafka.sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512" $config.kafka.security_protocol) -}}
{{- end -}}
{{- end -}}
{{- if and $config.http.port (ne (int $config.http.port) (int .Values.http.port)) -}}
{{- fail (printf "config.http.port is %d and http.port is %d: set http.port alone, probes and monitors use it too" (int $config.http.port) (int .Values.http.port)) -}}
{{- end -}}
{{- if and (eq $config.backend "tensorrt") (not .Values.gpu.enabled) -}}
{{- fail "config.backend tensorrt needs a GPU: set gpu.enabled, or another backend (auto, onnxruntime)" -}}
{{- end -}}
{{- if hasKey (.Values.resources.requests | default dict) .Values.gpu.resourceName -}}
{{- fail (printf "resources.requests.%s: a GPU belongs in limits alone; set gpu.count" .Values.gpu.resourceName) -}}
{{- end -}}
{{- if and .Values.keda.enabled (gt (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas)) -}}
{{- fail (printf "keda.minReplicas %d is more than keda.maxReplicas %d" (int .Values.keda.minReplicas) (int .Values.keda.maxReplicas)) -}}
{{- end -}}
{{- $bundles := .Values.bundles -}}
{{- if and (eq $bundles.source "oci") (not $bundles.oci.image) -}}
{{- fail "bundles.source oci needs bundles.oci.image: an image that holds the bundles' folder and has `cp`" -}}
{{- end -}}
{{- if and (eq $bundles.source "pvc") (not $bundles.pvc.claimName) -}}
{{- fail "bundles.source pvc needs bundles.pvc.claimName: a PersistentVolumeClaim that holds the bundles" -}}
{{- end -}}
{{- if and (eq $bundles.source "objectStore") (not $bundles.objectStore.remote) -}}
{{- fail "bundles.source objectStore needs bundles.objectStore.remote: rclone's name of the folder, such as store:bucket/models" -}}
{{- end -}}
{{- end }}
